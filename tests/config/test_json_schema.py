"""The JSON schema agrees with the reader of space files."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from raysearch.cli.plan_text import hparam_rows
from raysearch.config.json_schema import schema, schema_text
from raysearch.config.samplers import SAMPLERS
from raysearch.config.space import Space
from raysearch.config.space_file import parse_space, read_space
from raysearch.config.space_geometry import sample_hparams
from raysearch.config.space_model import SpaceFile
from raysearch.config.yaml_loader import load_document
from raysearch.errors import SpaceError
from raysearch.search.journal.codec import record_from_json, record_to_json
from support.spaces import FULL, HPARAMS

SPACES = Path(__file__).parents[2] / "searchspace"


def as_json(value: Any) -> Any:
    """Return `value` with the keys that JSON has."""
    if isinstance(value, dict):
        return {
            key if isinstance(key, str) else json.dumps(key): as_json(inner)
            for key, inner in value.items()
        }
    return [as_json(inner) for inner in value] if isinstance(value, list) else value


def schema_errors(tree: Any) -> Iterator[str]:
    """Yield the errors of `tree` by the schema."""
    for error in jsonschema.Draft7Validator(schema()).iter_errors(as_json(tree)):
        yield error.message


def test_the_stored_schema_is_the_generated_one() -> None:
    assert (SPACES / "schema.json").read_text() == schema_text(), (
        "generate it: python -c 'from raysearch.config.json_schema import schema_text;"
        ' open("searchspace/schema.json", "w").write(schema_text())\''
    )
    jsonschema.Draft7Validator.check_schema(schema())
    assert set(schema()["properties"]) == set(SpaceFile.model_fields)
    assert all(setting["description"] for setting in schema()["properties"].values())


@pytest.mark.parametrize("path", sorted(SPACES.glob("*.yaml")), ids=lambda path: path.name)
def test_every_space_names_the_schema_and_follows_it(path: Path) -> None:
    comments = [line for line in path.read_text().splitlines()[:10] if line.startswith("#")]
    assert "# yaml-language-server: $schema=schema.json" in comments
    assert list(schema_errors(load_document(path).tree)) == []
    read_space(path)


def test_the_schema_accepts_what_the_reader_accepts() -> None:
    assert list(schema_errors(yaml.safe_load(FULL))) == []
    batches = {"choice": {32: {}, 64: {"learning_rate": 1e-3}}}
    weights: dict[str, Any] = {"choice": {True: None, False: {}}}
    tree: dict[str, Any] = {
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
    del tree["space"]["learning_rate"]
    parse_space(tree, "x")
    assert list(schema_errors(tree)) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"colour": "red"},
        {"epochs": 0},
        {"objective": {"metric": "beauty"}},
        {"sampler": "bohb"},
        {"sampler": {"name": "gp", "group": True}},
        {"sampler": {"name": "qmc", "qmc_type": "grey"}},
        {"stopping": {"rule": "median"}},
        {"budget": {"days": 3}},
        {"budget": {"hours": "two"}},
        {"resources": {"gpus": 2}},
        {"resources": {"cpus": 2.5}},
        {"resources": {"prices": {"a b": 2.5}}},
        {"points_to_evaluate": [{"speed": 3}]},
        {"points_to_evaluate": [{}]},
        {"limits": {"weight": 3}},
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
    assert list(schema_errors(tree))
    with pytest.raises(SpaceError):
        parse_space(tree, "x")


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
            "grace_period": st.integers(1, 9),
            "paired_alpha": st.integers(0, 1) | st.floats(0, 1),
        },
    ),
    "budget": st.fixed_dictionaries(
        {}, optional={"hours": amounts, "gpu_hours": amounts, "no_improvement": st.integers(1, 9)}
    ),
    "resources": st.fixed_dictionaries(
        {"cpus": st.sampled_from([1, 0.5, 4.0])},
        optional={"prices": st.dictionaries(st.sampled_from(["g5.xlarge", "head"]), amounts)},
    ),
    "limits": st.dictionaries(st.sampled_from(["parameters", "inference_ms"]), amounts),
    "points_to_evaluate": st.lists(
        st.fixed_dictionaries(
            {"width": st.sampled_from([8, 16])}, optional={"head": st.just("flat")}
        ),
        max_size=2,
        unique_by=lambda point: (point["width"], point.get("head")),
    ),
    "constraints": st.sampled_from(
        [[], "width < 17", ["width < 17", "momentum < 3 or head == 'flat'"]]
    ),
    "warm_start": st.sampled_from(["first", [], ["first", "second.2"]]),
    "auxiliary": st.sampled_from(["data/secm", ["a", "b"]]),
}
MORE_HPARAMS: dict[str, Any] = {
    "head": {"choice": {"pooled": {}, "flat": {"hidden_units": {"logint": [16, 64]}}}},
    "class_weights": {"choice": [True, False]},
    "batch_size": {"choice": {32: None, 64: {"patient_fraction": {"uniform": [0.5, 1]}}}},
    "folds": {"value": 3},
    "augment": "none",
    "warmup_fraction": 0.3,
}


@given(
    st.fixed_dictionaries({}, optional=SECTIONS),
    st.sets(st.sampled_from(list(MORE_HPARAMS))),
    st.integers(0, 99),
)
def test_every_good_space_is_the_same_after_its_codec_and_follows_the_schema(
    tree: dict[str, Any], names: set[str], seed: int
) -> None:
    chosen = {name: MORE_HPARAMS[name] for name in (*names, "head")}
    tree["space"] = {**HPARAMS, **chosen}
    space = parse_space(tree, "x")
    assert record_from_json(Space, json.loads(json.dumps(record_to_json(space)))) == space
    assert all(isinstance(text, str) for text in space.settings().values())
    assert list(schema_errors(tree)) == []
    sample = sample_hparams(space, np.random.default_rng(seed))
    assert set(sample) <= {hparam.name for hparam in space.hparams}
    assert len(hparam_rows(space)) == len(space.hparams)
