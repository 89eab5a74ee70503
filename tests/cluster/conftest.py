"""Fixtures of the cluster tests: three hosts after `ray up`."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from .testbed import ClusterTestbed, open_testbed


@pytest.fixture(scope="module")
def cluster() -> Iterator[ClusterTestbed]:
    """The three hosts after `ray up`."""
    with open_testbed() as testbed:
        testbed.run("ray", "up", "-y", "--no-config-cache", str(testbed.file))
        try:
            testbed.await_nodes()
            yield testbed
        finally:
            testbed.run("ray", "down", "-y", str(testbed.file))
            lines = ["failure: lost fold-epochs, their seconds, seconds to recover"]
            lines += [str(recovery) for recovery in testbed.recoveries]
            sys.stdout.write("\n" + "\n".join(lines) + "\n")  # seen with -s
