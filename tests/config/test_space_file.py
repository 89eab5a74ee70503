"""A space file is read into a space, or rejected with all of its errors, one line each."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from raysearch.config.samplers import ForestSampler, RandomSampler, TpeSampler
from raysearch.config.space import RANGES, Budget, NetworkLimits, Stopping
from raysearch.config.space_file import parse_space, read_space
from raysearch.config.space_model import SpaceFile
from raysearch.errors import SpaceError
from support.spaces import FULL, HPARAMS, full_space

GOOD = """
objective: {metric: auroc, mode: max}
epochs: 10
trials: 4
space:
  momentum: {uniform: [0.5, 0.95], when: {optimizer: sgd}}
  optimizer: {choice: [adamw, sgd]}
  architecture: {choice: [cnn, benchmark]}
  width: {choice: [16, 32], when: {architecture: cnn}}
  learning_rate: {loguniform: [1e-4, 1e-2]}
  batch_size: 64
  folds: 3
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "space.yaml"
    path.write_text(text)
    return path


def file_rejection(tmp_path: Path, text: str) -> str:
    with pytest.raises(SpaceError) as rejected:
        read_space(write(tmp_path, text))
    return str(rejected.value)


def test_a_good_file_is_read_with_conditions_before_what_depends_on_them(tmp_path: Path) -> None:
    space = read_space(write(tmp_path, GOOD))
    names = [hparam.name for hparam in space.hparams]
    assert names.index("optimizer") < names.index("momentum")
    learning_rate = space.hyperparameter("learning_rate")
    assert learning_rate is not None
    assert learning_rate.values == (1e-4, 1e-2)


def test_every_section_fills_its_values() -> None:
    space = full_space()
    assert space.sampler == TpeSampler(
        multivariate=True, constant_liar=True, group=None, n_startup_trials=10
    )
    assert space.stopping == Stopping(2, 4, "promotion", 5, 0.2)
    assert space.budget == Budget(2.0, 10.0, 5.0, 400, 20, 0.95)
    assert space.resources.prices == (("g5.xlarge", 1.01), ("m5.large", 0.1))
    assert space.limits == NetworkLimits(1e6, 2.0)
    assert space.limits.by_metric() == {"parameters": 1e6, "inference_ms": 2.0}
    assert space.warm_start == ("first", "second")
    assert dict(space.points_to_evaluate[1]) == {
        "optimizer": "sgd",
        "momentum": 0.9,
        "head": "flat",
        "hidden_units": 64,
    }
    assert len(space.constraints) == 2


def test_a_file_with_hyperparameters_only_has_the_defaults() -> None:
    space = parse_space({"space": HPARAMS, "epochs": 20}, "x")
    assert (space.sampler, space.budget) == (ForestSampler(), Budget())
    assert space.stopping == Stopping(3, 3, "forest", 0, 0.1)
    without_rule = parse_space({"space": HPARAMS, "stopping": {"rule": "none"}}, "x")
    assert without_rule.stopping.paired_alpha == 0.0
    assert parse_space({"space": HPARAMS, "sampler": "random"}, "x").sampler == RandomSampler()


@pytest.mark.parametrize(
    ("epochs", "grace_period"),
    [(1, 1), (2, 1), (3, 1), (4, 2), (6, 3), (10, 3), (34, 3), (52, 5)],
)
def test_the_grace_period_is_a_tenth_of_the_epochs_but_not_the_first_few(
    tmp_path: Path, epochs: int, grace_period: int
) -> None:
    space = read_space(write(tmp_path, GOOD.replace("epochs: 10", f"epochs: {epochs}")))
    assert space.stopping.grace_period == grace_period


def test_the_order_of_options_and_prices_in_a_file_does_not_matter() -> None:
    reordered = yaml.safe_load(FULL)
    for name in ("sampler", "stopping", "budget", "limits"):
        reordered[name] = dict(reversed(reordered[name].items()))
    reordered["resources"]["prices"] = dict(reversed(reordered["resources"]["prices"].items()))
    reordered["points_to_evaluate"] = [
        dict(reversed(point.items())) for point in reordered["points_to_evaluate"]
    ]
    assert parse_space(reordered, "x") == full_space()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 1\n", "the file is not a mapping; required keys: `epochs`, `trials`, `space`"),
        ("", "the file is empty; required keys: `epochs`, `trials`, `space`"),
        ("epochs: 3\n", "space: this key is required"),
        ("space: {}\n", "line 1: space: no hyperparameter is given"),
        ("space: {learning_rate: .nan}\n", "nan is outside"),
        ("space: {folds: 1}\n", "1 is outside 2"),
        ("space: {folds: true}\n", "True is not an integer"),
        ("space: {batch_size: 1}\n", "1 is outside 2"),
        ("space: {dropout: {choice: []}}\n", "`choice: []` is not a list with values"),
        ("space: {dropout: {}}\n", "has no keys; give a value, or exactly one of choice, uniform"),
        ("space: {dropout: {chioce: [1]}}\n", "did you mean `choice`?"),
        ("space: {dropout: {value: 0, choice: [0]}}\n", "has `value`, `choice`; give a value"),
        ("space: {optimizer: {choice: [sgd, sgd]}}\n", "has a duplicate value"),
        ("space: {optimizer: {int: [1, 2]}}\n", "1 is unknown"),
        ("space: {width: {int: [1, 2, 3]}}\n", "not [low, high]"),
        ("space: {width: {uniform: [1, 2]}}\n", "width takes `int`, `logint` or `choice`"),
        ("space: {dropout: {loguniform: [0.0, 0.5]}}\n", "low must be above 0"),
        ("space: {dropout: {uniform: [0, 0.5], when: 3}}\n", "3 is not `other: value`"),
        ("space: {folds: 3}\ntrials: 0\n", "line 2: trials: 0 is below the minimum 1"),
        ("space: {folds: 3}\ntrials: 2.5\n", "trials: 2.5 is not an integer"),
    ],
)
def test_a_bad_file_is_rejected_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    rejected = file_rejection(tmp_path, text)
    assert message in rejected
    assert "\n" not in rejected


def test_a_file_of_weights_gets_an_absolute_path() -> None:
    space = parse_space({"space": {"weights": "idc.pt"}}, "x")
    assert space.weights_of("cnn") == (str(Path("idc.pt").absolute()),)


def test_reading_a_space_imports_no_slow_library(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom raysearch.config.space_file import read_space\nread_space(sys.argv[1])\n"
        "slow = {'torch', 'ray', 'sklearn', 'mlflow', 'optuna', 'scipy', 'numpy'}\n"
        "print(*(slow & set(sys.modules)))\n"
    )
    command = [sys.executable, "-c", code, str(write(tmp_path, GOOD))]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "\n"


KEYS = tuple(SpaceFile.model_fields)
WORDS = (
    *(*KEYS, *HPARAMS, *RANGES, "choice", "value", "when", "head", "hidden_units", "cnn", "sgd"),
    *("flat", "name", "tpe", "group", "rule", "asha", "hours", "prices", "parameters", "width < 9"),
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
def test_any_tree_is_accepted_or_rejected_with_one_line_an_error(
    tree: dict[str, Any], hparams: Any
) -> None:
    for content in ({**tree, "space": hparams}, {**tree, "space": {**HPARAMS, "head": hparams}}):
        try:
            parse_space(content, "x")
        except SpaceError as error:
            title, *lines = str(error).splitlines()
            assert title.startswith("x: ")
            assert not lines or title == f"x: {len(lines)} errors"
            assert all(line.startswith("  ") and line.strip() for line in lines)
