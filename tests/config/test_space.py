from pathlib import Path

import pytest

from raysearch.config.space import describe, space_from
from raysearch.config.space_file import parse_space, read_space
from raysearch.errors import SpaceError

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


def error(tmp_path: Path, text: str) -> str:
    with pytest.raises(SpaceError) as rejected:
        read_space(write(tmp_path, text))
    message = str(rejected.value)
    assert "\n" not in message
    return message


def test_a_good_space_is_read_with_conditions_before_what_depends_on_them(tmp_path: Path) -> None:
    space = read_space(write(tmp_path, GOOD))
    names = [hyperparameter.name for hyperparameter in space.hparams]
    assert names.index("optimizer") < names.index("momentum")
    assert {hyperparameter.name: hyperparameter for hyperparameter in space.hparams}[
        "learning_rate"
    ].values == (1e-4, 1e-2)


@pytest.mark.parametrize(
    ("epochs", "grace"), [(1, 1), (2, 1), (3, 1), (4, 2), (6, 3), (10, 3), (34, 3), (52, 5)]
)
def test_trials_are_compared_from_a_tenth_of_the_epochs_on_but_not_by_the_first_few(
    tmp_path: Path, epochs: int, grace: int
) -> None:
    space = read_space(write(tmp_path, GOOD.replace("epochs: 10", f"epochs: {epochs}")))
    assert space.stopping.grace == grace


def test_a_space_comes_back_from_json_as_it_was(tmp_path: Path) -> None:
    import json

    space = read_space(write(tmp_path, GOOD))
    assert space_from(json.loads(json.dumps(describe(space)))) == space


def test_all_errors_stand_in_one_message(tmp_path: Path) -> None:
    message = error(
        tmp_path,
        """
objective: {metric: beauty}
epochs: 0
colour: red
space:
  learning_rate: {loguniform: [1e-2, 1e-4]}
  architecture: {choice: [cnn, alexnet]}
  speed: 3
  batch_size: {uniform: [1, 2]}
""",
    )
    for word in (
        "7 errors",
        "'beauty' is never reported",
        "epochs: 0 is not",
        "colour: no such setting",
        "upside down",
        "'alexnet' is unknown",
        "space.speed: nothing reads it",
    ):
        assert word in message, word


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("space:\n\tfolds: 3\n", "a tab where YAML wants spaces"),
        ("epochs: 3\nepochs: 4\nspace: {folds: 3}\n", "'epochs' stands twice"),
        ("a: &a [x]\nb: [*a, *a]\n", "aliases"),
        ("space: {learning_rate: .nan}\n", "outside"),
        ("space: {folds: 1}\n", "1 is outside 2"),
        ("space: {folds: true}\n", "not a whole number"),
        ("space: {}\n", "nothing to search"),
        ("- 1\n", "holds no settings"),
        ("", "holds no settings"),
        ("space: [", "not YAML"),
        ("space: {dropout: {choice: []}}\n", "not a list with values"),
        ("space: {optimizer: {choice: [sgd, sgd]}}\n", "stands twice"),
        ("space: {folds: 3}\nobjective: {metric: auroc, mode: min}\n", "better at its max"),
        ("space: {folds: 3}\ntrials: 0\n", "trials: 0"),
        ("space: {folds: 3}\nstopping: {grace: 99}\n", "beyond the 10 epochs"),
        ("space: {folds: 3}\nobjective: {metric: [auroc]}\n", "['auroc'] is never reported"),
        ("space: {folds: 3}\ndata: 2024-02-30\n", "not YAML"),
        ("space: {folds: !!int x}\n", "not YAML"),
        ("space: {folds: !!timestamp x}\n", "not YAML"),
        ("space: {folds: 1%s}\n" % ("0" * 5000), "not YAML"),
        ("space: {batch_size: 1}\n", "1 is outside 2"),
        ("space: {momentum: 0.9}\n", "nothing reads it with architecture cnn, optimizer adamw"),
        ("space: {dropout: {uniform: [0, 0.5], when: {head: flat}}}\n", "head is not in the space"),
    ],
)
def test_a_bad_space_is_rejected_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    assert said in error(tmp_path, text)


def test_a_hyperparameter_that_only_some_parts_read_asks_for_its_condition(tmp_path: Path) -> None:
    message = error(
        tmp_path,
        "space:\n  optimizer: {choice: [adamw, sgd]}\n  momentum: {uniform: [0.5, 0.9]}\n",
    )
    assert "add `when: {optimizer: [sgd]}`" in message


def test_an_alias_bomb_is_rejected_at_once(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    assert "aliases" in error(tmp_path, "\n".join(lines))


def test_a_condition_in_a_circle_is_rejected() -> None:
    tree = {
        "space": {
            "optimizer": {"choice": ["sgd", "adamw"], "when": {"schedule": "constant"}},
            "schedule": {"choice": ["constant", "one_cycle"], "when": {"optimizer": "sgd"}},
        }
    }
    with pytest.raises(SpaceError, match="wait for each other"):
        parse_space(tree, "x")


def test_a_missing_file_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match="no such file"):
        read_space(tmp_path / "none.yaml")
