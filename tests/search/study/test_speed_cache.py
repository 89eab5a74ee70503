"""The measured speed of the networks of a space, and the time of an epoch that follows from it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from raysearch.config.space_file import parse_space
from raysearch.search.study.plan import Plan
from raysearch.search.study.plan_creation import make_plan
from raysearch.search.study.speed_cache import (
    NUM_PROBED,
    SPEEDS,
    NetworkSpeed,
    cached_speeds,
    epoch_seconds,
    probed_configurations,
    store_speed,
)

HPARAMS: dict[str, Any] = {
    "folds": 2,
    "architecture": {"choice": ["cnn", "p4m"]},
    "width": {"choice": [4, 8, 16]},
    "batch_size": 32,
    "learning_rate": {"loguniform": [1e-4, 1e-2]},
}
SPEED = NetworkSpeed(0.01, 0.002, 0.0)


def plan_of(shards: Path, **hparams: Any) -> Plan:
    tree = {"epochs": 4, "trials": 6, "space": HPARAMS | hparams}
    return make_plan(parse_space(tree, "x"), "x", str(shards))[0]


def files(plan: Plan) -> list[str]:
    return [configuration.file for configuration in probed_configurations(plan)]


def test_small_middle_and_large_networks_represent_each_architecture(shards: Path) -> None:
    configurations = probed_configurations(plan_of(shards))
    for architecture in ("cnn", "p4m"):
        widths = [
            dict(configuration.hparams)["width"]
            for configuration in configurations
            if configuration.architecture == architecture
        ]
        assert (min(widths), max(widths)) == (4, 16)
        assert len(widths) <= NUM_PROBED
    one_size = probed_configurations(plan_of(shards, architecture="cnn", width=8))
    assert len(one_size) == 1


def test_an_architecture_that_constraints_almost_exclude_is_represented(shards: Path) -> None:
    plan = plan_of(shards, learning_rate={"uniform": [1e-4, 1e-2]})
    constraints = ("architecture == 'cnn' or learning_rate > 0.00995",)
    plan = replace(plan, space=replace(plan.space, constraints=constraints))
    configurations = probed_configurations(plan)
    assert {configuration.architecture for configuration in configurations} == {"cnn", "p4m"}


def test_a_measurement_counts_for_every_space_with_the_same_networks_and_patches(
    shards: Path,
) -> None:
    plan = plan_of(shards)
    assert files(plan_of(shards, learning_rate={"loguniform": [1e-5, 1e-3]})) == files(plan)
    assert not set(files(plan_of(shards, batch_size=64))) & set(files(plan))
    assert not set(files(replace(plan, shape=(64, 64, 3)))) & set(files(plan))
    resources = replace(plan.space.resources, cpus=2.0)
    with_two_cores = replace(plan, space=replace(plan.space, resources=resources))
    assert not set(files(with_two_cores)) & set(files(plan))


def test_a_damaged_measurement_is_made_again(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYSEARCH_CACHE", str(tmp_path / "cache"))
    first, second, *_others = configurations = probed_configurations(plan_of(shards))
    assert cached_speeds(configurations) == {}
    store_speed(first, SPEED)
    store_speed(second, SPEED)
    path = tmp_path / "cache" / SPEEDS / second.file
    path.write_bytes(path.read_bytes().replace(b"0.01", b"0.02"))
    assert cached_speeds(configurations) == {first: SPEED}


def test_an_epoch_trains_and_validates_each_patch_once(shards: Path) -> None:
    plan = plan_of(shards, architecture="cnn", width=8)
    (configuration,) = probed_configurations(plan)
    speed = NetworkSpeed(0.01, 0.001, 0.1)
    (seconds,) = epoch_seconds(plan, {configuration: speed})["cnn"].values
    # 120 of 240 patches are trained on; all are preprocessed once in four epochs.
    assert seconds == pytest.approx(120 * 0.01 + 120 * 0.001 + 240 * 0.1 / 4)


def test_views_and_the_fraction_of_patients_change_the_time_of_an_epoch(shards: Path) -> None:
    plan = plan_of(shards, architecture="cnn", width=8, tta="dihedral", patient_fraction=0.5)
    (configuration,) = probed_configurations(plan)
    (seconds,) = epoch_seconds(plan, {configuration: NetworkSpeed(0.01, 0.001, 0)})["cnn"].values
    # The last of four epochs is validated with eight views.
    assert seconds == pytest.approx(60 * 0.01 + 120 * 0.001 * (3 + 8) / 4)


def test_a_frozen_network_is_timed_by_folds_beside_the_trained_one(shards: Path) -> None:
    hparams = {
        "folds": 2,
        "architecture": "resnet18",
        "weights": "imagenet",
        "batch_size": 32,
        "adaptation": {"choice": ["full", "frozen"]},
        "classifier": {"choice": ["linear", "nearest_centroid"], "when": {"adaptation": "frozen"}},
    }
    tree = {"epochs": 4, "trials": 6, "space": hparams}
    plan = make_plan(parse_space(tree, "x"), "x", str(shards))[0]
    speeds = dict.fromkeys(probed_configurations(plan), NetworkSpeed(0.01, 0.001, 0.0))
    seconds = {name: sorted(value.values) for name, value in epoch_seconds(plan, speeds).items()}
    full_s = 120 * 0.01 + 120 * 0.001
    assert seconds["resnet18 (full)"] == pytest.approx([full_s])
    # A linear classifier is trained for four epochs, a nearest centroid is fitted once.
    linear_s = 4 * 120 * 0.01 + 120 * 0.001
    assert {round(value, 9) for value in seconds["resnet18 (frozen)"]} == {
        round(full_s, 9),
        round(linear_s, 9),
    }
