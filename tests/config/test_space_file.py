"""What a space says beside its hyperparameters, and hyperparameters that stand inside a choice."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from raysearch.cli.plan_text import hparam_rows, hparams_title, search_rows, stopping_text
from raysearch.cli.tables import plan_tables
from raysearch.config.constraints import allowed
from raysearch.config.json_schema import schema, schema_text
from raysearch.config.settings import KEYS, SAMPLERS
from raysearch.config.space import (
    RANGES,
    Budget,
    Ceiling,
    Sampling,
    Space,
    Stopping,
    describe,
    space_from,
)
from raysearch.config.space_file import parse_space, read_space
from raysearch.config.yaml_loader import load_tree
from raysearch.errors import SpaceError
from raysearch.search.sampling.unit_cube import draw
from raysearch.search.study.plan import Plan, Split

SPACES = Path(__file__).parents[2] / "searchspace"
FULL = """
task: label
split: mine
data: synthetic:24:1200:0
auxiliary: [data/secm]
objective: {metric: auroc, mode: max}
epochs: 20
trials: 16
seed: 3
sampler: {name: tpe, startup_trials: 10, multivariate: true, constant_liar: true}
stopping: {rule: promotion, grace: 2, reduction: 4, patience: 5, paired: 0.2}
budget: {hours: 2, gpu_hours: 10, dollars: 5, fold_epochs: 400, no_improvement: 20, target: 0.95}
resources: {cpus: 1, gpus: 0.5, prices: {m5.large: 0.10, g5.xlarge: 1.01}}
points:
  - {learning_rate: 0.001, architecture: cnn}
  - {optimizer: sgd, momentum: 0.9, head: flat, dense: 64}
constraints:
  - width * convolutions <= 64
  - learning_rate < 0.1 * weight_decay or optimizer == 'sgd'
ceilings: {parameters: 1000000, inference_ms: 2.0}
warm_start: [first, second]
space:
  folds: 3
  learning_rate: {loguniform: [1.0e-4, 1.0e-2]}
  weight_decay: {uniform: [0.01, 0.1]}
  architecture:
    choice:
      benchmark:
      cnn:
        width: {logint: [8, 64]}
        convolutions: {int: [1, 3]}
        head:
          choice: {pooled: {}, flat: {dense: {logint: [16, 256]}}}
  optimizer:
    choice:
      adamw: {beta2: {uniform: [0.9, 0.999]}}
      sgd: {momentum: {uniform: [0.5, 0.95]}, nesterov: {choice: [true, false]}}
"""
HPARAMS = {
    "learning_rate": {"loguniform": [1e-4, 1e-2]},
    "width": {"choice": [8, 16]},
    "batch_size": {"int": [8, 64]},
    "optimizer": {"choice": {"adamw": {}, "sgd": {"momentum": {"uniform": [0.5, 0.9]}}}},
}


def full() -> Space:
    return parse_space(yaml.safe_load(FULL), "x")


def rejection(tree: dict[str, Any]) -> str:
    """What is said against `tree`; nothing where it is taken."""
    try:
        parse_space(tree, "x")
    except SpaceError as error:
        return str(error)
    return ""


def errors(**sections: Any) -> str:
    with pytest.raises(SpaceError) as rejected:
        parse_space({"space": HPARAMS, **sections}, "x")
    assert "\n" not in str(rejected.value)
    return str(rejected.value)


def plan_of(space: Space, *rungs: tuple[int, ...]) -> Plan:
    splits = tuple(Split(2, "a" * 64, (4, 4), (9, 9), one) for one in rungs)
    classes = (("negative", "positive"), (9, 9))
    return Plan("x", "id", space, "data", "f" * 64, (50, 50, 3), *classes, splits)


def test_every_section_fills_its_values() -> None:
    space = full()
    assert space.sampling == Sampling(
        "tpe", (("multivariate", True), ("constant_liar", True), ("startup_trials", 10))
    )
    assert space.stopping == Stopping(2, 4, "promotion", 5, 0.2)
    assert space.budget == Budget(2.0, 10.0, 5.0, 400, 20, 0.95)
    assert space.resources.prices == (("g5.xlarge", 1.01), ("m5.large", 0.1))
    assert space.ceilings == (Ceiling("parameters", 1e6), Ceiling("inference_ms", 2.0))
    assert space.warm_start == ("first", "second")
    assert dict(space.points[1]) == {
        "optimizer": "sgd",
        "momentum": 0.9,
        "head": "flat",
        "dense": 64,
    }
    assert len(space.constraints) == 2


def test_a_space_that_says_nothing_has_the_defaults() -> None:
    space = parse_space({"space": HPARAMS, "epochs": 20}, "x")
    assert (space.sampling, space.budget) == (Sampling("forest"), Budget())
    assert space.stopping == Stopping(3, 3, "forest", 0, 0.1)
    still = parse_space({"space": HPARAMS, "stopping": {"rule": "none"}}, "x")
    assert still.stopping.paired == 0.0
    assert parse_space({"space": HPARAMS, "sampler": "random"}, "x").sampling == Sampling("random")


def test_every_field_comes_back_from_json() -> None:
    space = full()
    assert space_from(json.loads(json.dumps(describe(space)))) == space


def test_the_flat_settings_are_readable_and_tell_two_spaces_apart() -> None:
    space = full()
    flat = space.flat()
    assert all(isinstance(text, str) and "((" not in text for text in flat.values())
    assert flat["sampler.startup_trials"] == "10"
    assert flat["points.1"] == "learning_rate=0.001 architecture=cnn"
    assert flat["ceilings.parameters"] == "1000000"
    assert flat["resources.prices.g5.xlarge"] == "1.01"
    assert flat["warm_start"] == "first, second"
    others: list[dict[str, Any]] = [
        {"sampling": Sampling("gp")},
        {"stopping": Stopping(2)},
        {"budget": Budget(hours=2.0)},
        {"points": ()},
        {"constraints": ("width < 3",)},
        {"ceilings": (Ceiling("parameters", 1e6 + 1),)},
        {"warm_start": ()},
        {"auxiliary": ()},
        {"resources": replace(space.resources, prices=())},
        {"hparams": space.hparams[:-1]},
    ]
    for other in others:
        assert replace(space, **other).flat() != flat, other


def test_the_order_of_options_and_prices_in_a_file_does_not_matter() -> None:
    turned = yaml.safe_load(FULL)
    for name in ("sampler", "stopping", "budget", "ceilings"):
        turned[name] = dict(reversed(turned[name].items()))
    turned["resources"]["prices"] = dict(reversed(turned["resources"]["prices"].items()))
    turned["points"] = [dict(reversed(one.items())) for one in turned["points"]]
    assert parse_space(turned, "x") == full()


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"sampler": "bohb"}, "sampler: 'bohb' is unknown; one of forest, tpe, gp"),
        ({"sampler": {"startup_trials": 3}}, "sampler: None is unknown"),
        ({"sampler": 3}, "sampler: 3 is not a sampler"),
        ({"sampler": {"name": "gp", "group": True}}, "sampler.group: no such option; gp takes"),
        ({"sampler": {"name": "forest", "steps": 3}}, "forest takes nothing"),
        ({"sampler": {"name": "grid", "steps": 1}}, "sampler.steps: 1 is outside 2"),
        ({"sampler": {"name": "qmc", "type": "grey"}}, "'grey' is unknown: one of sobol, halton"),
        ({"sampler": {"name": "tpe", "group": "yes"}}, "'yes' is neither true nor false"),
        (
            {"sampler": {"name": "tpe", "group": True, "multivariate": False}},
            "set multivariate: true",
        ),
        ({"stopping": {"rule": "median"}}, "stopping.rule: 'median' is unknown: one of forest"),
        ({"stopping": {"paired": 5}}, "stopping.paired: 5 is outside 0 to 1"),
        ({"stopping": {"patience": -1}}, "stopping.patience: -1 is outside 0"),
        ({"stopping": "asha"}, "stopping: 'asha' is not a section; it holds rule"),
        ({"budget": {"days": 2}}, "budget.days: no such setting; budget holds hours"),
        ({"budget": {"hours": 0}}, "budget.hours: 0 is outside"),
        ({"budget": {"hours": float("nan")}}, "budget.hours: nan is outside"),
        ({"budget": {"dollars": 5}}, "budget.dollars: no machine has a price; give"),
        ({"budget": {"target": 95}}, "budget.target: 95 is never reached"),
        ({"resources": {"prices": {"g5": "dear"}}}, "resources.prices.g5: 'dear' is not a number"),
        ({"resources": {"prices": 3}}, "resources.prices: 3 is not"),
        ({"resources": {"prices": {3: 3}}}, "3 is not the name of a node type"),
        ({"ceilings": {"weight": 3}}, "ceilings.weight: no such setting"),
        ({"ceilings": {"parameters": 0}}, "ceilings.parameters: 0 is outside"),
        ({"warm_start": ["../up"]}, "warm_start: '../up' is not a study's name"),
        ({"warm_start": ["a", "a"]}, "warm_start: a study's name stands there twice"),
        ({"constraints": 3}, "constraints: not a text such as"),
        ({"points": {"width": 8}}, "points: not a list of points"),
        ({"points": [{}]}, "points: not a list of points"),
        ({"points": [{"speed": 8}]}, "points.1.speed: no hyperparameter of this space"),
        ({"points": [{"width": 8}, {"width": 9}]}, "points.2.width: 9 is not allowed here: 8, 16"),
        ({"points": [{"width": 8}, {"width": 8}]}, "points: one stands there twice"),
        ({"points": [{"width": True}]}, "points.1.width: True is not a whole number"),
        ({"points": [{"learning_rate": 1.0}]}, "points.1.learning_rate: 1.0 is outside 0.0001"),
        ({"points": [{"batch_size": 8.5}]}, "points.1.batch_size: 8.5 is not a whole number"),
        (
            {"points": [{"optimizer": "adamw", "momentum": 0.6}]},
            "points.1.momentum: exists only where optimizer is sgd, and here it is adamw",
        ),
        ({"constraints": ["speed < 3"]}, "constraints.1: `speed < 3`: speed is not in the space"),
        ({"constraints": ["optimizer == 'sdg'"]}, "optimizer is never 'sdg'"),
        ({"constraints": ["width <"]}, "constraints.1: `width <`: no expression"),
        (
            {"constraints": ["width < 10"], "points": [{"width": 16}]},
            "`width < 10` excludes every point",
        ),
        (
            {"constraints": ["width < 100", "learning_rate > 1"]},
            "none of 1,000 random configurations satisfies them; `learning_rate > 1` excludes",
        ),
        ({"constraints": ["width / (width - width) > 1"]}, "excludes 1,000 of them"),
        (
            {"constraints": ["optimizer < 3 or width < 9"]},
            "`optimizer < 3 or width < 9`: 'adamw' is a text, and stands where a number belongs",
        ),
    ],
)
def test_a_bad_section_is_rejected_in_one_line(sections: dict[str, Any], said: str) -> None:
    assert said in errors(**sections)


def test_all_errors_of_all_sections_are_told_at_once() -> None:
    said = errors(
        sampler="bohb",
        budget={"days": 2},
        points=[{"speed": 1}],
        constraints=["speed < 3"],
        ceilings={"weight": 1},
        stopping={"rule": "x"},
    )
    assert "x: 6 errors" in said


def test_a_point_may_be_half_of_what_a_constraint_asks() -> None:
    points = [{"width": 16}, {"width": 8, "batch_size": 8}]
    space = parse_space(
        {"space": HPARAMS, "points": points, "constraints": ["width * batch_size < 200"]}, "x"
    )
    assert len(space.points) == 2


def test_hyperparameters_inside_a_choice_are_hyperparameters_with_a_condition() -> None:
    flat = {
        "optimizer": {"choice": ["adamw", "sgd"]},
        "momentum": {"uniform": [0.5, 0.95], "when": {"optimizer": "sgd"}},
        "nesterov": {"choice": [True, False], "when": {"optimizer": "sgd"}},
        "head": {"choice": ["pooled", "flat"]},
        "dense": {"logint": [16, 256], "when": {"head": "flat"}},
    }
    nested = {
        "optimizer": {
            "choice": {
                "adamw": {},
                "sgd": {
                    "momentum": {"uniform": [0.5, 0.95]},
                    "nesterov": {"choice": [True, False]},
                },
            }
        },
        "head": {"choice": {"pooled": None, "flat": {"dense": {"logint": [16, 256]}}}},
    }
    by_name = {
        hyperparameter.name: hyperparameter
        for hyperparameter in parse_space({"space": flat}, "x").hparams
    }
    assert {
        hyperparameter.name: hyperparameter
        for hyperparameter in parse_space({"space": nested}, "x").hparams
    } == by_name


def test_a_hyperparameter_alike_under_two_values_exists_under_both() -> None:
    dropout = {"dropout": {"uniform": [0.0, 0.5]}}
    choices = {"cnn": dropout, "vgg16": dropout, "resnet18": {}}
    space = parse_space({"space": {"architecture": {"choice": choices}}}, "x")
    assert space.hparams[1].when == (("architecture", ("cnn", "vgg16")),)


@pytest.mark.parametrize(
    ("hparams", "said"),
    [
        (
            {
                "architecture": {
                    "choice": {"cnn": {"dropout": 0.1}, "vgg16": {"dropout": 0.2}},
                }
            },
            "stands under architecture cnn and under architecture vgg16 with another",
        ),
        (
            {"dropout": 0.1, "architecture": {"choice": {"cnn": {"dropout": 0.1}, "vgg16": {}}}},
            "space.dropout: stands at the top and under architecture cnn; put it in one place",
        ),
        (
            {"optimizer": {"choice": {"sgd": 3}}},
            "space.optimizer.choice.sgd: 3 is not the hyperparameters",
        ),
        ({"optimizer": {"choice": {"sdg": {}}}}, "'sdg' is unknown"),
        ({"optimizer": {"choice": {"sgd": {"speed": 3}}}}, "space.speed: nothing reads it"),
        ({"optimizer": {"choice": {"sgd": {"momentum": 3}}}}, "space.momentum: 3 is outside"),
        (
            {"optimizer": {"choice": {"sgd": {"optimizer": {"choice": ["sgd"]}}}}},
            "space.optimizer: stands at the top and under optimizer sgd",
        ),
        (
            {
                "optimizer": {
                    "choice": {"sgd": {"momentum": {"value": 0.9, "when": {"optimizer": "sgd"}}}}
                }
            },
            "space.momentum.when: it stands under optimizer already",
        ),
        ({"momentum": {"value": 0.9, "when": {"optimizer": []}}}, "optimizer has no value there"),
        ({"dense": 64}, "space.dense: nothing reads it unless head is flat; add"),
        (
            {"balanced_sampling": True, "class_weights": True},
            "space.class_weights: nothing reads it unless balanced_sampling is false; add"
            " `when: {balanced_sampling: false}`",
        ),
        (
            {"head": {"choice": ["flat", "pooled"]}, "dense": 64},
            "space.dense: nothing reads it unless head is flat",
        ),
        (
            {
                "architecture": {"choice": ["cnn", "vgg16"]},
                "head": "flat",
            },
            "add `when: {architecture: [cnn]}`",
        ),
    ],
)
def test_a_hyperparameter_in_a_wrong_place_is_rejected(hparams: dict[str, Any], said: str) -> None:
    assert said in errors(space=hparams)


def test_what_hangs_on_a_hyperparameter_that_is_conditional_itself_is_read() -> None:
    hparams = {
        "architecture": {"choice": {"vgg16": {}, "cnn": {"head": {"choice": ["pooled", "flat"]}}}},
        "dense": {"int": [8, 16], "when": {"head": "flat"}},
    }
    assert [hyperparameter.name for hyperparameter in parse_space({"space": hparams}, "x").hparams][
        -1
    ] == "dense"
    hparams["head"] = {"choice": ["pooled", "flat"], "when": {"architecture": "cnn"}}
    hparams["architecture"] = {"choice": ["cnn", "vgg16"]}
    parse_space({"space": hparams, "points": [{"architecture": "cnn", "dense": 9}]}, "x")
    said = errors(space=hparams, points=[{"architecture": "vgg16", "dense": 9}])
    assert "points.1.dense: exists only where head is flat, and here it is not" in said


@given(st.integers(0, 2**32 - 1))
def test_a_draw_has_exactly_the_hyperparameters_that_exist_each_within_its_values(
    seed: int,
) -> None:
    space = full()
    chosen = draw(space, np.random.default_rng(seed))
    for hyperparameter in space.hparams:
        assert hyperparameter.active(chosen) == (hyperparameter.name in chosen)
        if hyperparameter.name not in chosen:
            continue
        value = chosen[hyperparameter.name]
        if hyperparameter.kind in RANGES:
            assert (
                float(hyperparameter.values[0]) <= float(value) <= float(hyperparameter.values[1])
            )
            assert type(value) is (int if "int" in hyperparameter.kind else float)
        else:
            assert value in hyperparameter.values
    assert chosen == draw(space, np.random.default_rng(seed))


def test_draws_are_uniform_and_log_uniform() -> None:
    hparams = {"width": {"logint": [1, 64]}, "convolutions": {"int": [1, 3]}}
    space = parse_space({"space": {**HPARAMS, **hparams}}, "x")
    generator = np.random.default_rng(0)
    drawn = [draw(space, generator) for _ in range(3000)]
    rates = np.log10([float(one["learning_rate"]) for one in drawn])
    assert np.histogram(rates, 4, (-4, -2))[0] == pytest.approx([750] * 4, abs=120)
    assert np.bincount([int(one["convolutions"]) for one in drawn])[1:] == pytest.approx(
        [1000] * 3, abs=120
    )
    fraction = np.mean([int(one["width"]) < 8 for one in drawn])
    assert fraction == pytest.approx(np.log(7.5 / 0.5) / np.log(64.5 / 0.5), abs=0.05)


def test_what_is_allowed_satisfies_every_constraint() -> None:
    space = full()
    assert allowed(space, {"width": 64, "convolutions": 1, "optimizer": "sgd"})
    assert not allowed(space, {"width": 64, "convolutions": 2, "optimizer": "sgd"})
    assert allowed(space, {"architecture": "benchmark", "optimizer": "sgd"})


def test_a_plan_tells_all_of_it_in_words() -> None:
    rows = search_rows(plan_of(full(), (2, 8, 20)))
    words = {
        "sampler": "tpe: a tree of Parzen estimators; multivariate true, constant_liar true",
        "points": "2, tried first:\nlearning_rate=0.001 architecture=cnn",
        "constraints": "width * convolutions <= 64\n",
        "ceilings": "parameters at most 1,000,000; inference_ms at most 2",
        "warm start": "first, second",
        "stopping": "best 1/4 there; rungs after fold-epochs 2, 8, 20; 5 epochs of a fold without"
        " improvement end a trial; so does a test paired over the folds, p below 0.2",
        "budget": "2 hours, 10 GPU-hours, 5.00 dollars, 400 fold-epochs, 20 trials in a row that"
        " are no better, auroc of 0.95 reached, whichever comes first",
        "prices": "g5.xlarge 1.01, m5.large 0.1 dollars an hour",
    }
    for name, said in words.items():
        assert said in rows[name], name
    assert hparams_title(full()) == "Space: 4 choices, 7 ranges, 1 fixed; 7 only under conditions"
    cells = {row[0]: row[3] for row in hparam_rows(full())}
    assert cells["    dense"] == "where head is flat"
    names = [name.strip() for name in cells]
    assert names.index("dense") == names.index("head") + 1


def test_a_plan_of_a_space_that_says_little_is_short() -> None:
    space = parse_space({"space": HPARAMS, "stopping": {"rule": "none"}}, "x")
    rows = search_rows(plan_of(space, ()))
    assert rows["stopping"] == "none: every trial runs to its end"
    assert rows["budget"] == "no limit"
    assert not any(rows[name] for name in ("points", "constraints", "ceilings", "prices"))
    asha = replace(space, stopping=Stopping(1, 3, "asha"))
    assert stopping_text(plan_of(asha, (1, 3), (1, 3, 10))).endswith("the rungs are below")
    free = replace(space, budget=Budget(gpu_hours=3.0))
    assert "take no GPU" in search_rows(plan_of(free, ()))["budget"]
    (head, *_rest) = plan_tables(plan_of(space, ()))
    cells = dict(zip(*(list(column.cells) for column in head.columns), strict=True))
    assert cells["held_out"] == "none"
    assert "points" not in cells


def test_a_point_that_a_constraint_excludes_is_told() -> None:
    points = [{"width": 8}, {"width": 16}]
    space = parse_space({"space": HPARAMS, "points": points, "constraints": ["width < 9"]}, "x")
    assert "width=16  (excluded by width < 9)" in search_rows(plan_of(space, ()))["points"]


def as_json(value: Any) -> Any:
    """`value` with the keys that JSON would have."""
    if isinstance(value, dict):
        return {
            json.dumps(key) if not isinstance(key, str) else key: as_json(one)
            for key, one in value.items()
        }
    return [as_json(one) for one in value] if isinstance(value, list) else value


def complaints(tree: Any) -> Iterator[str]:
    """What the schema says against `tree`."""
    for error in jsonschema.Draft7Validator(schema()).iter_errors(as_json(tree)):
        yield error.message


def test_the_stored_schema_is_the_one_the_code_makes() -> None:
    assert (SPACES / "schema.json").read_text() == schema_text(), (
        "write it anew: python -c 'from raysearch.config.json_schema import schema_text;"
        ' open("searchspace/schema.json", "w").write(schema_text())\''
    )
    jsonschema.Draft7Validator.check_schema(schema())
    assert set(schema()["properties"]) == set(KEYS)


@pytest.mark.parametrize("path", sorted(SPACES.glob("*.yaml")), ids=lambda path: path.name)
def test_every_space_names_the_schema_and_follows_it(path: Path) -> None:
    opening = [line for line in path.read_text().splitlines()[:10] if line.startswith("#")]
    assert "# yaml-language-server: $schema=schema.json" in opening
    assert list(complaints(load_tree(path))) == []
    read_space(path)


def test_the_schema_takes_what_the_reader_takes() -> None:
    assert list(complaints(yaml.safe_load(FULL))) == []
    batches = {"choice": {32: {}, 64: {"learning_rate": 1e-3}}}
    weights: dict[str, Any] = {"choice": {True: None, False: {}}}
    more = {
        "space": {
            **HPARAMS,
            "batch_size": batches,
            "class_weights": weights,
            "dropout": {"value": 0},
        },
        "sampler": "qmc",
        "constraints": "width < 9",
        "warm_start": "first",
        "resources": {"cpus": 0.5},
    }
    del more["space"]["learning_rate"]  # type: ignore[attr-defined]
    parse_space(more, "x")
    assert list(complaints(more)) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"colour": "red"},
        {"epochs": 0},
        {"objective": {"metric": "beauty"}},
        {"sampler": "bohb"},
        {"sampler": {"name": "gp", "group": True}},
        {"sampler": {"name": "qmc", "type": "grey"}},
        {"stopping": {"rule": "median"}},
        {"budget": {"days": 3}},
        {"budget": {"hours": "two"}},
        {"resources": {"gpus": 2}},
        {"resources": {"cpus": 2.5}},
        {"points": [{"speed": 3}]},
        {"points": [{}]},
        {"ceilings": {"weight": 3}},
        {"warm_start": ["../up"]},
        {"space": {}},
        {"space": {"learning_rat": 0.1}},
        {"space": {"learning_rate": 1000}},
        {"space": {"learning_rate": {"loguniform": [0.1]}}},
        {"space": {"learning_rate": {"uniform": [0.1, 0.2], "choice": [0.1]}}},
        {"space": {"weight_decay": {"loguniform": [0.0, 0.1]}}},
        {"space": {"batch_size": {"uniform": [8, 16]}}},
        {"space": {"architecture": {"choice": ["alexnet"]}}},
        {"space": {"optimizer": {"choice": {"sgd": {"speed": 3}}}}},
        {"space": {"momentum": {"value": 0.9, "when": {"optimiser": "sgd"}}}},
        {"space": {"momentum": {"value": 0.9, "when": {"optimizer": "sdg"}}}},
    ],
    ids=str,
)
def test_typical_mistakes_are_rejected_by_schema_and_reader(wrong: dict[str, Any]) -> None:
    tree = {"space": HPARAMS, **wrong}
    assert list(complaints(tree))
    with pytest.raises(SpaceError):
        parse_space(tree, "x")


WORDS = (
    *(*KEYS, *HPARAMS, *RANGES, "choice", "value", "when", "head", "dense", "cnn", "sgd", "flat"),
    *("name", "tpe", "group", "rule", "asha", "hours", "prices", "parameters", "width < 9"),
)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 99), st.floats(), st.sampled_from(WORDS)
)
trees = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(WORDS) | st.integers(0, 99), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(KEYS), trees, max_size=5), trees)
def test_no_tree_is_more_than_rejected(tree: dict[str, Any], hparams: Any) -> None:
    for one in ({**tree, "space": hparams}, {**tree, "space": {**HPARAMS, "head": hparams}}):
        assert re.fullmatch("(x: .+)?", rejection(one))


amounts = st.integers(1, 9) | st.floats(1.0, 9.5)
SECTIONS: dict[str, st.SearchStrategy[Any]] = {
    "epochs": st.integers(9, 99),
    "data": st.sampled_from(["synthetic:24:1200:0", "s3://bucket/idc"]),
    "objective": st.sampled_from([{}, {"metric": "log_loss"}, {"metric": "f1", "mode": "max"}]),
    "sampler": st.sampled_from(list(SAMPLERS))
    | st.fixed_dictionaries(
        {"name": st.just("tpe")}, optional={"group": st.booleans(), "by_rung": st.booleans()}
    )
    | st.builds(lambda steps: {"name": "grid", "steps": steps}, st.integers(2, 9)),
    "stopping": st.fixed_dictionaries(
        {},
        optional={
            "rule": st.sampled_from(["forest", "promotion", "asha", "none"]),
            "grace": st.integers(1, 9),
            "paired": st.integers(0, 1) | st.floats(0, 1),
        },
    ),
    "budget": st.fixed_dictionaries(
        {}, optional={"hours": amounts, "gpu_hours": amounts, "no_improvement": st.integers(1, 9)}
    ),
    "resources": st.fixed_dictionaries(
        {"cpus": st.sampled_from([1, 0.5, 4.0])},
        optional={"prices": st.dictionaries(st.sampled_from(["g5.xlarge", "head"]), amounts)},
    ),
    "ceilings": st.dictionaries(st.sampled_from(["parameters", "inference_ms"]), amounts),
    "points": st.lists(
        st.fixed_dictionaries(
            {"width": st.sampled_from([8, 16])}, optional={"head": st.just("flat")}
        ),
        max_size=2,
        unique_by=lambda one: (one["width"], one.get("head")),
    ),
    "constraints": st.sampled_from(
        [[], "width < 17", ["width < 17", "momentum < 3 or head == 'flat'"]]
    ),
    "warm_start": st.sampled_from(["first", [], ["first", "second.2"]]),
    "auxiliary": st.sampled_from(["data/secm", ["a", "b"]]),
}
OTHERS = {
    "head": {"choice": {"pooled": {}, "flat": {"dense": {"logint": [16, 64]}}}},
    "class_weights": {"choice": [True, False]},
    "batch_size": {"choice": {32: None, 64: {"patients": {"uniform": [0.5, 1]}}}},
    "folds": {"value": 3},
    "augment": "none",
    "warmup": 0.3,
}


@given(
    st.fixed_dictionaries({}, optional=SECTIONS),
    st.sets(st.sampled_from(list(OTHERS))),
    st.integers(0, 99),
)
def test_every_good_space_comes_back_from_json_and_follows_the_schema(
    tree: dict[str, Any], others: set[str], seed: int
) -> None:
    tree["space"] = {**HPARAMS, "head": OTHERS["head"], **{name: OTHERS[name] for name in others}}
    space = parse_space(tree, "x")
    assert space_from(json.loads(json.dumps(describe(space)))) == space
    assert all(isinstance(text, str) for text in space.flat().values())
    assert list(complaints(tree)) == []
    assert set(draw(space, np.random.default_rng(seed))) <= {
        hyperparameter.name for hyperparameter in space.hparams
    }
    assert sum(1 for _row in hparam_rows(space)) == len(space.hparams)
    assert all(isinstance(text, str) for text in search_rows(plan_of(space, (1, 3))).values())
