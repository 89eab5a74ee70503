"""What the cluster tests share: three hosts after `ray up`."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from .ground import Ground, open_ground


@pytest.fixture(scope="session")
def cluster() -> Iterator[Ground]:
    """The three hosts after `ray up`."""
    with open_ground() as ground:
        ground.run("ray", "up", "-y", "--no-config-cache", str(ground.file))
        try:
            ground.await_nodes()
            yield ground
        finally:
            ground.run("ray", "down", "-y", str(ground.file))
            lines = ["error: fold-epochs to train again, their seconds, seconds to recover"]
            for error, epochs, again, seconds in ground.errors:
                lines.append(f"{error}: {epochs}, {again:.1f}, {seconds:.1f}")
            sys.stdout.write("\n" + "\n".join(lines) + "\n")  # seen with -s
