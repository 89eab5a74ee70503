"""The search path of modules that Ray's workers receive."""

from __future__ import annotations

import site
import sys
import sysconfig
from pathlib import Path

import pytest
from ray.core.generated.common_pb2 import JobConfig as SentJobConfig

from raysearch.search.engine.worker_path import ClusterJobConfig, WorkerJobConfig


def search_path(config: WorkerJobConfig) -> list[str]:
    """The entries that a worker has before its own, in their order there."""
    config._py_driver_sys_path = ["/added/by/ray"]
    sent = SentJobConfig.FromString(config._serialize())
    return list(sent.py_driver_sys_path)[::-1]


def test_workers_of_this_machine_have_the_launchers_path_and_its_folder_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = search_path(WorkerJobConfig())
    assert path[-1] == str(tmp_path)
    assert set(path[:-1]) <= set(sys.path)
    assert site.getsitepackages()[0] in path


def test_workers_of_a_cluster_keep_their_own_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = str(Path(__file__).parents[3] / "src")
    monkeypatch.chdir(tmp_path)
    own = [str(tmp_path), sysconfig.get_path("stdlib"), *site.getsitepackages(), "/nowhere"]
    monkeypatch.setattr(sys, "path", ["", *own, checkout])
    assert search_path(ClusterJobConfig()) == [checkout]
