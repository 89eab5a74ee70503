"""What a study begins with and may cost, what its nets may be, and how it is extended."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raysearch.cli.launch_study import _planned
from raysearch.config.constraints import allowed
from raysearch.config.space import Space
from raysearch.config.space_file import parse_space
from raysearch.errors import SpaceError, StudyError
from raysearch.search.journal.history import History
from raysearch.search.scheduling.cost_estimate import expected_fold_epochs
from raysearch.search.scheduling.policy import SearchPolicy
from raysearch.search.study.plan import make_plan
from raysearch.search.study.warm_start import warm_started
from raysearch.training.model_limits import too_much
from raysearch.training.train_config import TrainConfig
from raysearch.training.training_data import TrainingData
from support.result_studies import TREE, new_study, run_on


def space(**more: Any) -> Space:
    return parse_space(TREE | more, "x")


def test_a_study_begins_with_the_best_of_earlier_ones(shards: Path, tmp_path: Path) -> None:
    study = new_study(shards, tmp_path / "first", TREE)
    run_on(study, 12)
    found = warm_started(space(warm_start=["first"]), str(tmp_path))
    best = max(study.history.done(), key=lambda one: one.final_objective)
    assert len(found.points) == min(3, len(study.history.done()))
    assert dict(found.points[0])["learning_rate"] == best.hparams["learning_rate"]
    [first] = [SearchPolicy(found).next()]
    assert first is not None
    assert first["hparams"]["learning_rate"] == best.hparams["learning_rate"]


def test_a_warm_start_that_cannot_be_is_told_in_one_line(shards: Path, tmp_path: Path) -> None:
    new_study(shards, tmp_path / "empty", TREE)
    study = new_study(shards, tmp_path / "first", TREE)
    run_on(study, 12)
    with pytest.raises(StudyError, match="no study 'none'"):
        warm_started(space(warm_start=["none"]), str(tmp_path))
    with pytest.raises(StudyError, match="finished no trial"):
        warm_started(space(warm_start=["empty"]), str(tmp_path))
    narrow = {**TREE["space"], "learning_rate": {"loguniform": [1e-9, 1e-8]}}
    with pytest.raises(StudyError, match="of another space: its best learning_rate is"):
        warm_started(space(warm_start=["first"], space=narrow), str(tmp_path))
    other = space(warm_start=["first"], objective={"metric": "f1"})
    with pytest.raises(StudyError, match="was for auroc, this one is for f1"):
        warm_started(other, str(tmp_path))


@pytest.mark.parametrize("sampler", ["forest", "tpe", "random", "grid", "qmc"])
def test_every_proposal_satisfies_the_constraints(sampler: str) -> None:
    found = space(
        sampler=sampler, trials=30, constraints=["learning_rate < 0.01 or optimizer == 'sgd'"]
    )
    policy = SearchPolicy(found)
    for number in range(30):
        event = policy.next()
        if event is None:
            assert sampler == "grid"
            break
        assert allowed(found, event["hparams"])
        policy.take({"at": 0.0, **event})
        value = float(np.random.default_rng(number).random())
        report = {"event": "report", "at": 0.0, "trial": event["trial"], "epoch": 1, "fold": 0}
        policy.take(report | {"objective": value, "metrics": {}, "seconds": 1.0, "rung": True})
    assert len(policy.history.searched()) >= 15


def test_the_expected_cost_lies_between_one_rung_and_everything() -> None:
    for rule in ("none", "asha", "promotion", "forest"):
        asked = space(trials=20, epochs=9, stopping={"rule": rule})
        found = expected_fold_epochs(asked)
        assert 20 < found <= 20 * 9 * 2
        assert (found == 20 * 9 * 2) == (rule == "none")
        assert expected_fold_epochs(replace(asked, trials=40)) > found


def test_a_budget_below_one_trial_is_rejected(shards: Path) -> None:
    with pytest.raises(SpaceError, match=r"budget\.fold_epochs: 7 is less than the 8"):
        make_plan(space(budget={"fold_epochs": 7}), "x", str(shards))


def test_a_net_above_a_ceiling_is_told_by_its_metric() -> None:
    rows = np.arange(4, dtype=np.int64)
    data = TrainingData(
        torch.zeros((4, 50 * 50 * 3), dtype=torch.uint8),
        torch.zeros(4, dtype=torch.int64),
        np.array(["a"] * 4),
        (50, 50, 3),
        ("negative", "positive"),
        ((rows, rows),),
    )
    config = TrainConfig({"architecture": "cnn", "width": 8}, 1, "auroc", 0)
    assert too_much(config, data, {"parameters": 10**9, "inference_ms": 10**6}) is None
    assert str(too_much(config, data, {"parameters": 1000})).startswith("parameters ")
    assert str(too_much(config, data, {"inference_ms": 1e-9})).startswith("inference_ms ")


def test_trials_are_added_to_a_study_and_never_taken_back(shards: Path, tmp_path: Path) -> None:
    study = new_study(shards, tmp_path / "first", TREE)
    stored, history = study.plan, study.history
    asked = stored.space
    assert _planned(None, asked, stored, history) == 12
    assert _planned("+5", asked, stored, history) == 17
    assert _planned("13", asked, stored, history) == 13
    assert _planned("7", asked, None, None) == 7
    study.begin(17)
    assert _planned("+5", asked, stored, history) == 22
    for text in ("0", "+0", "-3", "1.5", "many", "+"):
        with pytest.raises(SpaceError, match="give 1 or more"):
            _planned(text, asked, stored, history)
    with pytest.raises(StudyError, match="has 17 already"):
        _planned("12", asked, stored, history)
    with pytest.raises(SpaceError, match="a new study has no trials to add to"):
        _planned("+5", asked, None, None)
    again = History(json.loads(json.dumps(study.journal.events)))
    assert again.planned(12) == 17
