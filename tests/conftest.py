"""What the tests share: one set of synthetic shards, one Ray cluster, and settings."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from raysearch.data.shards import write_shards

settings.register_profile("raysearch", deadline=None)
settings.load_profile("raysearch")


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of 240 synthetic patches of 12 patients."""
    out = tmp_path_factory.mktemp("shards") / "small"
    write_shards("12:240:3", out, "synthetic", workers=1)
    return out


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Pixel files of tests lie apart from the user's, and studies where each test says."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYSEARCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        for name in ("RAYSEARCH_STUDIES", "MLFLOW_TRACKING_URI", "RAY_ADDRESS"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real patches and splits; the test is skipped where there is none."""
    place = os.environ.get("RAYSEARCH_SHARED")
    if not place:
        pytest.skip("RAYSEARCH_SHARED does not name the folder with real patches")
    return Path(place)
