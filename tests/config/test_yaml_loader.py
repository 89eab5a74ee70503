"""YAML files are read safely, with the line of each value."""

from pathlib import Path

import pytest

from raysearch.config.yaml_loader import load_document
from raysearch.errors import SpaceError


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "space.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("space:\n\tfolds: 3\n", "line 2: a tab as indentation; indent with spaces"),
        ("seed: 3\nspace: {folds: 3}\nepochs: 2\nseed: 4\n", "line 4: duplicate key `seed`"),
        ("a: &a [x]\nb: [*a, *a]\n", "line 2: aliases (`*name`) are not allowed"),
        ("space: [", "not YAML"),
        ("space: {folds: 3}\ndata: 2024-02-30\n", "not YAML"),
        ("space: {folds: !!int x}\n", "not YAML"),
        ("space: {folds: !!timestamp x}\n", "not YAML"),
        ("space: {folds: 1%s}\n" % ("0" * 5000), "not YAML"),
        (f"data: {'x' * 300_000}\n", "larger than 256 kB"),
    ],
)
def test_unsafe_or_broken_yaml_is_rejected_in_one_line(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(SpaceError) as rejected:
        load_document(write(tmp_path, text))
    assert message in str(rejected.value)
    assert "\n" not in str(rejected.value)


def test_an_alias_bomb_is_rejected_at_once(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    with pytest.raises(SpaceError, match="aliases"):
        load_document(write(tmp_path, "\n".join(lines)))


def test_a_missing_file_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match="no such file"):
        load_document(tmp_path / "none.yaml")


def test_numbers_may_have_an_exponent_without_a_point(tmp_path: Path) -> None:
    assert load_document(write(tmp_path, "a: 1e-3\nb: 2E5\nc: 1e\n")).tree == {
        "a": 1e-3,
        "b": 2e5,
        "c": "1e",
    }


def test_each_value_has_its_line_or_that_of_the_value_around_it(tmp_path: Path) -> None:
    document = load_document(
        write(tmp_path, "a: 1\nb:\n  - x\n  - c: {d: 2}\ne:\n  true: 3\n  16: 4\n")
    )
    assert document.line_of(("a",)) == 1
    assert document.line_of(("b", 1, "c", "d")) == 4
    assert document.line_of(("b", 1, "c", "d", "deeper")) == 4
    assert document.line_of(("e", True)) == 6
    assert document.line_of(("e", 16)) == 7
    assert document.line_of(("f",)) is None
