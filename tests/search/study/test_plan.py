"""A plan: what it costs, and that it is read as it was written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from raysearch.config.space_file import parse_space
from raysearch.search.study.plan import load_plan
from raysearch.search.study.plan_creation import make_plan
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
