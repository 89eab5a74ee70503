"""A space built in Python, and as YAML."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import raysearch
from raysearch.config.space_file import read_space
from raysearch.errors import SpaceError

KEYS = {
    "epochs": 2,
    "trials": 3,
    "space": {
        "architecture": {"choice": ("cnn", "p4m")},
        "width": {"choice": [4, 8], "when": {"architecture": "cnn"}},
        "learning_rate": {"loguniform": (1e-4, 1e-2)},
    },
    "points_to_evaluate": [{"architecture": "p4m", "learning_rate": 1e-3}],
}
TOP = Path(__file__).parents[2]
FILES = sorted((TOP / "searchspace").glob("*.yaml"))


def test_a_space_of_python_values_is_that_of_its_file(tmp_path: Path) -> None:
    space = raysearch.Space(**KEYS)
    space.write(tmp_path / "space.yaml")
    assert raysearch.Space.read(tmp_path / "space.yaml") == space
    assert read_space(tmp_path / "space.yaml") == space.settings
    assert space.settings.trials == 3
    assert space.hyperparameters["learning_rate"] == "loguniform 0.0001 to 0.01"
    assert raysearch.Space(**{**KEYS, "seed": 1}) != space
    assert len({space, raysearch.Space(**KEYS, seed=space.settings.seed)}) == 1


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_each_space_of_the_repository_comes_back_from_its_yaml(file: Path, tmp_path: Path) -> None:
    space = raysearch.Space.read(file)
    (tmp_path / "again.yaml").write_text(space.to_yaml())
    assert raysearch.Space.read(tmp_path / "again.yaml") == space
    assert space.settings == read_space(file)


def test_overrides_replace_values_of_a_file() -> None:
    path = TOP / "searchspace" / "quickstart.yaml"
    space = raysearch.Space.read(path, ["epochs=1", "space.dropout=0.25"])
    assert space.settings.epochs == 1
    assert space.hyperparameters["dropout"] == "0.25"


def test_values_of_numpy_texts_like_numbers_and_paths_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.pt").touch()
    rates = list(np.logspace(-4, -2, 3))
    space = raysearch.Space(
        task="1e3",
        space={"architecture": "cnn", "weights": "net.pt", "learning_rate": {"choice": rates}},
    )
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    space.write("space.yaml")
    again = raysearch.Space.read("space.yaml")
    assert again == space
    assert again.settings.task == "1e3"
    assert again.settings.values_of("weights") == (str(tmp_path / "net.pt"),)
    folder = raysearch.Space(space={"architecture": "cnn", "weights": tmp_path / "net.pt"})
    assert folder.settings.values_of("weights") == (str(tmp_path / "net.pt"),)


def test_all_errors_are_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match=r"epochs: 0 is below(.|\n)*did you mean `width`"):
        raysearch.Space(epochs=0, space={"widht": 4})
    with pytest.raises(SpaceError, match="Space: space: this key is required"):
        raysearch.Space()
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(SpaceError, match="the file is not a mapping"):
        raysearch.Space.read(tmp_path / "list.yaml")
    with pytest.raises(SpaceError, match="no such file"):
        raysearch.Space.read(tmp_path / "missing.yaml")
