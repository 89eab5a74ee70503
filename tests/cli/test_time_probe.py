"""The processes that measure the speed of a plan's networks."""

from dataclasses import replace
from pathlib import Path

import pytest

from raysearch.cli import time_probe
from raysearch.cli.time_probe import known_seconds, local_times, probe_speeds, remote_times
from raysearch.config.space_file import parse_space
from raysearch.search.study.plan import Plan
from raysearch.search.study.plan_creation import make_plan
from raysearch.search.study.speed_cache import (
    NetworkSpeed,
    probed_configurations,
    store_speed,
)


def plan_of(shards: Path) -> Plan:
    hparams = {"folds": 2, "architecture": "cnn", "width": {"choice": [4, 8]}}
    tree = {"epochs": 2, "trials": 4, "space": hparams, "resources": {"cpus": 1}}
    return make_plan(parse_space(tree, "x"), "x", str(shards))[0]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAYSEARCH_CACHE", str(tmp_path / "cache"))
    # Other tests may keep the cores busy.
    monkeypatch.setattr(time_probe, "MAX_PROBE_S", 600.0)
    return tmp_path / "cache"


@pytest.mark.slow
def test_a_speed_is_measured_once_and_read_afterwards(shards: Path, cache: Path) -> None:
    plan = plan_of(shards)
    assert known_seconds(plan) == {}
    measured = probe_speeds(plan)
    assert measured.failures == {}
    assert list(measured.speeds) == probed_configurations(plan)
    written = {path: path.stat().st_mtime_ns for path in cache.rglob("*.json")}
    # Without the shards, nothing can be measured again.
    again = probe_speeds(replace(plan, data=str(cache / "gone")))
    assert again.speeds == measured.speeds
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*.json")} == written
    times = local_times(plan, again)
    assert times.forecast is not None
    assert times.forecast.low < times.forecast.total < times.forecast.high
    assert known_seconds(plan)["cnn"] == times.epoch_seconds["cnn"]


@pytest.mark.slow
def test_what_cannot_be_measured_is_unknown_with_the_reason(shards: Path, cache: Path) -> None:
    plan = replace(plan_of(shards), data=str(cache / "gone"))
    probed = probe_speeds(plan)
    assert probed.speeds == {}
    assert "gone" in probed.failures["cnn"]
    assert local_times(plan, probed).forecast is None


def test_an_architecture_without_allowed_configurations_is_unknown_with_the_reason(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYSEARCH_CACHE", str(tmp_path / "cache"))
    hparams = {
        "architecture": {"choice": ["cnn", "p4m"]},
        "learning_rate": {"uniform": [1e-4, 0.01]},
    }
    tree = {"trials": 8, "space": {"folds": 2, **hparams}}
    constraints = ["architecture == 'cnn' or learning_rate > 0.0099999"]
    space = parse_space(tree | {"constraints": constraints}, "x")
    plan = replace(plan_of(shards), space=space)
    configurations = probed_configurations(plan)
    assert {configuration.architecture for configuration in configurations} == {"cnn"}
    for configuration in configurations:
        store_speed(configuration, NetworkSpeed(0.01, 0.001, 0.0))
    probed = probe_speeds(plan)
    assert probed.failures == {"p4m": time_probe.NONE_ALLOWED}
    assert local_times(plan, probed).forecast is None


def test_a_cluster_has_unknown_times_and_a_number_of_fold_epochs(shards: Path) -> None:
    times = remote_times(plan_of(shards))
    assert times.forecast is None
    assert times.unknown == {"cnn": "no node of the cluster has measured it"}
    assert times.search.fold_epochs > 4
