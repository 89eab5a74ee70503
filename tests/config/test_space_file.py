"""A space file is read into a space, or rejected with all of its errors, one line each."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from raysearch.config.names import LABEL, OPTIMIZERS, PREPROCESSINGS, SCHEDULES
from raysearch.config.samplers import ForestSampler, RandomSampler, TpeSampler
from raysearch.config.space import RANGES, Budget, NetworkLimits, Stopping
from raysearch.config.space_file import parse_space, read_space
from raysearch.config.space_model import SpaceFile
from raysearch.errors import SpaceError
from support.spaces import FULL, HPARAMS, full_space, rejection

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
        ("- 1\n", "the file is not a mapping; the key `space` is required"),
        ("", "the file is empty; the key `space` is required"),
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
        ("space: [1]\n", "is not a mapping of hyperparameters, such as {learning_rate: 0.001}"),
        ("space: {folds: 3}\n3: 1\n", "3: a key is text; put it in quotation marks"),
        ("space: {folds: 3}\ntrials: 2.5\n", "trials: 2.5 is not an integer"),
    ],
)
def test_a_bad_file_is_rejected_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    rejected = file_rejection(tmp_path, text)
    assert message in rejected
    assert "\n" not in rejected


def test_the_valid_keys_of_a_section_with_an_error_still_count() -> None:
    tree = {
        "space": HPARAMS,
        "resources": {"cpus": "many", "prices": {"g5": 1.0}},
        "budget": {"dollars": 5},
    }
    with pytest.raises(SpaceError) as caught:
        parse_space(tree, "x")
    assert "cpus" in str(caught.value)
    assert "prices" not in str(caught.value)


def test_an_empty_task_is_the_default_task() -> None:
    assert parse_space({"space": HPARAMS, "task": None}, "x").task == LABEL


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


HOSTILE_LISTS = {
    "constraints": [f"width <= {number}" for number in range(100, 5100)],
    "points_to_evaluate": [{"width": number % 1024 + 1} for number in range(5000)],
    "warm_start": [f"study-{number}" for number in range(5000)],
    "auxiliary": [f"shards-{number}" for number in range(5000)],
}


@pytest.mark.parametrize("key", HOSTILE_LISTS)
def test_a_list_with_thousands_of_entries_is_rejected(key: str) -> None:
    message = rejection(**{key: HOSTILE_LISTS[key]})
    assert f"x: {key}: 5,000 " in message
    assert "\n" not in message


def test_thousands_of_errors_are_counted() -> None:
    with pytest.raises(SpaceError) as rejected:
        parse_space({"space": {f"x{number}": 1 for number in range(2000)}}, "x")
    lines = str(rejected.value).splitlines()
    assert lines[0] == "x: 2,000 errors"
    assert lines[-1].strip() == "and 1,950 more"
    assert len(lines) == 52


def test_thousands_of_architectures_are_checked_in_time() -> None:
    start = time.monotonic()
    names = [f"timm:net{number}" for number in range(3000)]
    selectors = {
        "optimizer": {"choice": list(OPTIMIZERS)},
        "schedule": {"choice": list(SCHEDULES)},
        "preprocess": {"choice": list(PREPROCESSINGS)},
    }
    tree = {"space": {"learning_rate": 0.1, "architecture": {"choice": names}, **selectors}}
    assert len(parse_space(tree, "x").values_of("architecture")) == len(names)
    assert time.monotonic() - start < 30


def test_addresses_that_are_not_allowed_are_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAYSEARCH_SCHEMES", raising=False)
    for address in ("http://host/x", "zip://a::s3://b", "gs://bucket/x", "memory://x"):
        assert "not allowed" in rejection(data=address)
        assert "not allowed" in rejection(auxiliary=[address])
    parse_space({"space": {"learning_rate": 0.1}, "data": "data/a::b"}, "x")


def test_a_folder_of_an_encoder_gets_an_absolute_path() -> None:
    hparams = {"folds": 2, "architecture": {"choice": ["./enc", "../other", "~/third", "uni"]}}
    space = parse_space({"epochs": 1, "trials": 1, "space": hparams}, "x")
    folders = (Path.cwd() / "enc", Path.cwd().parent / "other", Path.home() / "third")
    assert space.values_of("architecture") == (*map(str, folders), "uni")
