"""A plan's search in words."""

from dataclasses import replace

import pytest

from raysearch.cli.plan_text import (
    epochs_text,
    hparam_rows,
    hparams_title,
    memory_text,
    plan_tables,
    search_rows,
    stopping_text,
)
from raysearch.config.space import Budget, Space, Stopping
from raysearch.config.space_file import parse_space
from raysearch.search.study.plan import Memory, MemorySource, OmittedStudy, Plan, Split
from support.spaces import HPARAMS, full_space


def plan_of(space: Space, *rungs: tuple[int, ...]) -> Plan:
    splits = tuple(Split(2, "a" * 64, (4, 4), (9, 9), levels) for levels in rungs)
    classes = (("negative", "positive"), (9, 9))
    return Plan("x", "id", space, "data", "f" * 64, (50, 50, 3), *classes, splits)


def test_a_plan_has_every_setting_in_words() -> None:
    rows = search_rows(plan_of(full_space(), (2, 8, 20)))
    texts = {
        "sampler": "tpe: a tree-structured Parzen estimator; multivariate true, constant_liar true,"
        " n_startup_trials 10",
        "points to evaluate": "2, evaluated first:\nlearning_rate=0.001 architecture=cnn",
        "constraints": "width * convolutions <= 64\n",
        "limits": "parameters at most 1,000,000; inference_ms at most 2",
        "warm start": "first, second",
        "stopping": "best 1/4 there; rungs after fold-epochs 2, 8, 20; 5 epochs of a fold without"
        " improvement stop a trial; a paired test over folds with p below 0.2",
        "budget": "2 hours, 10 GPU-hours, 5.00 dollars, 400 fold-epochs, 20 trials in a row without"
        " improvement, auroc of 0.95 reached, whichever comes first",
        "prices": "g5.xlarge 1.01, m5.large 0.1 dollars per hour",
    }
    for name, text in texts.items():
        assert text in rows[name], name


def test_hyperparameters_are_counted_and_follow_those_they_depend_on() -> None:
    space = full_space()
    assert hparams_title(space) == "Space: 4 choices, 7 ranges, 1 fixed; 7 conditional"
    conditions = {row[0]: row[3] for row in hparam_rows(space)}
    assert conditions["    hidden_units"] == "if head is flat"
    names = [name.strip() for name in conditions]
    assert names.index("hidden_units") == names.index("head") + 1


def test_a_plan_of_a_space_with_few_settings_is_short() -> None:
    space = parse_space({"space": HPARAMS, "stopping": {"rule": "none"}}, "x")
    rows = search_rows(plan_of(space, ()))
    assert rows["stopping"] == "none: every trial trains to its end"
    assert rows["budget"] == "no limit"
    assert not any(rows[name] for name in ("points to evaluate", "constraints", "limits", "prices"))
    asha = replace(space, stopping=Stopping(1, 3, "asha"))
    assert stopping_text(plan_of(asha, (1, 3), (1, 3, 10))).endswith("the rungs are below")
    without_gpu = replace(space, budget=Budget(gpu_hours=3.0))
    assert "use no GPU" in search_rows(plan_of(without_gpu, ()))["budget"]
    (table, *_rest) = plan_tables(plan_of(space, ()), 1)
    cells = dict(zip(*(list(column.cells) for column in table.columns), strict=True))
    assert "none" in cells.values()  # no patients are held out
    assert "points to evaluate" not in cells


def test_a_point_that_a_constraint_excludes_is_marked() -> None:
    points = [{"width": 8}, {"width": 16}]
    space = parse_space(
        {"space": HPARAMS, "points_to_evaluate": points, "constraints": ["width < 9"]}, "x"
    )
    rows = search_rows(plan_of(space, ()))
    assert "width=16  (excluded by width < 9)" in rows["points to evaluate"]


def test_a_plan_counts_patches_or_slides() -> None:
    of_patches = plan_of(full_space(), (2, 8))
    of_slides = replace(of_patches, shape=(400, 768, 1))
    assert (of_patches.unit, of_slides.unit) == ("patches", "slides")
    for plan in (of_patches, of_slides):
        settings, *_others, split = plan_tables(plan, 100)
        assert plan.unit in list(settings.columns[0].cells)
        assert [column.header for column in split.columns] == ["fold", "patients", plan.unit]


@pytest.mark.parametrize(
    ("value", "text"), [(7, "7"), ({"int": [3, 6]}, "3 to 6"), ({"choice": [5, 10]}, "5, 10")]
)
def test_the_epochs_are_a_number_choices_or_a_range(value: object, text: str) -> None:
    assert epochs_text(parse_space({"space": {**HPARAMS, "epochs": value}}, "x")) == text


def test_a_plan_lists_the_earlier_studies() -> None:
    tree = {"epochs": 2, "memory": "studies", "space": {"folds": 2, "width": {"int": [4, 8]}}}
    plan = plan_of(parse_space(tree, "x"), (1, 2))
    assert memory_text(plan) == "studies: no earlier study"
    omitted = tuple(OmittedStudy(f"s{number}", "it is running") for number in range(12))
    unusable = replace(plan, memory=Memory(omitted=omitted[:1]))
    assert memory_text(unusable) == "no earlier study can be used\nnot s0: it is running"
    plan = replace(plan, memory=Memory((MemorySource("first", 1200),), omitted, "a" * 64))
    lines = memory_text(plan).splitlines()
    assert lines[:2] == ["first: 1,200 trials", "not s0: it is running"]
    assert lines[-1] == "and not 2 more"
    assert len(lines) == 12
    by_default = replace(plan, space=parse_space(tree | {"sampler": "tpe"}, "x"))
    assert memory_text(by_default) == ""
    named = replace(plan, space=parse_space(tree | {"sampler": "tpe", "memory": "other"}, "x"))
    assert memory_text(named) == "not used: the sampler tpe has no memory, forest has"
    shared = replace(plan, memory=Memory((MemorySource("first", 12, 7),), (), "a" * 64))
    assert memory_text(shared) == "first: 12 trials, on 7 of the same patients"
    assert memory_text(plan_of(parse_space(tree | {"memory": "none"}, "x"), (1, 2))) == ""
