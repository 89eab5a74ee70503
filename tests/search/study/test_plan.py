"""A plan: what it costs, and that it is read as it was written."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from raysearch.config.space_file import parse_space
from raysearch.errors import StudyError
from raysearch.search.study.plan import WeightsFile, load_plan
from raysearch.search.study.plan_creation import make_plan, reject_changes
from raysearch.search.study.trial_data import train_config
from raysearch.training.precision_settings import PrecisionSettings
from support.champion_studies import REPEATED_HPARAMS

TREE: dict[str, Any] = {"epochs": 1, "trials": 2, "space": REPEATED_HPARAMS}


def test_the_kind_of_champion_and_its_repeats_are_part_of_the_cost(shards: Path) -> None:
    refit = make_plan(parse_space(TREE, "x"), "x", str(shards))[0]
    assert (refit.space.repeats, refit.space.champion) == (1, "refit")
    ensemble_space = parse_space({**TREE, "repeats": 3, "champion": "ensemble"}, "x")
    ensemble = make_plan(ensemble_space, "x", str(shards))[0]
    assert ensemble.repeat_fold_epochs == 3 * 2 * 1
    assert refit.max_fold_epochs == ensemble.max_fold_epochs + 1


def test_a_written_plan_is_read_as_it_was(shards: Path) -> None:
    space = parse_space({**TREE, "repeats": 3, "champion": "ensemble"}, "x")
    plan = make_plan(space, "x", str(shards))[0]
    assert load_plan(plan.dump()) == plan


def test_the_precision_settings_of_a_written_plan_are_read(shards: Path) -> None:
    plan = make_plan(parse_space(TREE, "x"), "x", str(shards))[0]
    settings = PrecisionSettings("bfloat16", "channels_last")
    probed = plan.with_precision({"some cpu": {"cnn": settings}})
    assert load_plan(probed.dump()) == probed
    assert probed.precision_for("some cpu", "cnn").precision == "bfloat16"
    assert probed.precision_for("another cpu", "cnn") == PrecisionSettings()


def test_a_plan_of_the_format_without_weights_is_read(shards: Path) -> None:
    plan = make_plan(parse_space(TREE, "x"), "x", str(shards))[0]
    content = json.loads(plan.dump())
    del content["weights"], content["hash"]
    content["format"] = 2
    text = json.dumps(content, sort_keys=True).encode()
    stored = json.dumps({**content, "hash": hashlib.sha256(text).hexdigest()}).encode()
    assert load_plan(stored) == plan


def test_a_resume_with_other_weights_is_rejected_and_trials_get_their_hash(shards: Path) -> None:
    plan = make_plan(parse_space(TREE, "x"), "x", str(shards))[0]
    weights = (WeightsFile("resnet18", "imagenet", "a" * 64),)
    with_weights = replace(plan, weights=weights)
    assert load_plan(with_weights.dump()) == with_weights
    with pytest.raises(StudyError, match=r"weights imagenet of resnet18 was aaaaaaaaaaaa, is bbb"):
        reject_changes(with_weights, replace(plan, weights=(replace(weights[0], sha256="b" * 64),)))
    reject_changes(plan, with_weights)  # a plan of an earlier format
    hparams = {"architecture": "resnet18", "weights": "imagenet"}
    config = train_config(with_weights, hparams, 0, torch.device("cpu"))
    assert config.weights_hash == "a" * 64
    config = train_config(with_weights, {"architecture": "resnet18"}, 0, torch.device("cpu"))
    assert config.weights_hash == ""
