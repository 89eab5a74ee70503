"""`raysearch inspect` prints its findings, and its exit code says whether there are errors."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from raysearch.cli import run
from raysearch.data.files import Folder
from raysearch.data.shards.shard_manifest import read_manifest
from raysearch.data.shards.sharding import write_shards
from support.audit_sets import ImageSet, clean_image_set, distinct_patches

InspectCommand = Callable[..., tuple[int, str]]


@pytest.fixture
def image_set(tmp_path: Path) -> ImageSet:
    """48 patches of 6 patients without any problem."""
    return clean_image_set(tmp_path)


@pytest.fixture
def inspect(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> InspectCommand:
    """Run the command, and return its exit code and its output."""
    (tmp_path / "page").mkdir()

    def run_inspect(*arguments: str) -> tuple[int, str]:
        code = run(["inspect", *arguments, "--out", str(tmp_path / "page" / "inspect.html")])
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return run_inspect


def test_errors_are_printed_and_give_exit_code_1(
    image_set: ImageSet, inspect: InspectCommand, tmp_path: Path
) -> None:
    image_set.add(distinct_patches()[3], "p5", "no")
    code, output = inspect(image_set.shard())
    assert code == 1
    assert "with different labels" in output
    assert "2 errors found" in output
    assert (tmp_path / "page" / "inspect.html").is_file()


def test_the_json_output_has_every_finding(image_set: ImageSet, inspect: InspectCommand) -> None:
    copy = image_set.add(np.rot90(distinct_patches()[3]), "p5", "yes")
    code, output = inspect(image_set.shard(), "--json")
    record = json.loads(output)
    assert code == 1
    assert record["has_errors"] is True
    assert record["findings"][0]["key"] == "duplicates-patients"
    assert record["findings"][0]["files"] == [["003.png", copy]]
    assert record["duplicates"][0]["kind"] == "rotated or flipped"
    assert record["color_model"]["folds"] == 5
    assert record["columns"]["patient"]["values"] == 6


def test_warnings_alone_give_exit_code_0(shards: Path, inspect: InspectCommand) -> None:
    code, output = inspect(str(shards))
    assert code == 0
    assert "No errors found" in output


def test_names_that_look_like_markup_are_printed(tmp_path: Path, inspect: InspectCommand) -> None:
    image_set, patches = ImageSet(tmp_path), distinct_patches()
    for number in range(16):
        image_set.add(patches[number], f"<b>[red]{number // 4}", ["no", "yes"][number % 2])
    code, _output = inspect(image_set.shard())
    assert code == 0


def test_the_outliers_are_left_out_of_the_next_shards(
    image_set: ImageSet, inspect: InspectCommand, tmp_path: Path
) -> None:
    black = image_set.add(np.full((50, 50, 3), 4, np.uint8), "p5", "no")
    listed = tmp_path / "outliers.csv"
    code, _output = inspect(image_set.shard(), "--outliers-csv", str(listed))
    assert code == 0
    assert listed.read_text().splitlines() == [
        "file,reason",
        f'{black},"near-gray, near-uniform, black"',
    ]
    words = ["shard", str(image_set.folder / "set.csv"), str(tmp_path / "without")]
    assert run([*words, "--exclude", str(listed)]) == 0
    manifest = read_manifest(Folder(tmp_path / "without"))
    assert manifest.excluded == {black: "excluded: near-gray, near-uniform, black"}
    assert manifest.rows == 48
    listed.write_text("file\n048.pgn\n")
    assert run([*words[:2], str(tmp_path / "other"), "--exclude", str(listed)]) == 2


def test_usage_errors_are_one_line(shards: Path, tmp_path: Path, inspect: InspectCommand) -> None:
    code, output = inspect(str(tmp_path / "nowhere"))
    assert (code, output.count("\n")) == (2, 1)
    assert "no such folder; give one that `raysearch shard` has written" in output
    code, output = inspect(str(shards), "--task", "color")
    assert (code, output.count("\n")) == (2, 1)
    assert "these shards have label; name one" in output
    (tmp_path / "page").rmdir()
    code, output = inspect(str(shards))
    assert (code, output.count("\n")) == (2, 1)
    assert "create it, or name another" in output


def test_the_synthetic_set_has_a_leakage_gap(tmp_path: Path, inspect: InspectCommand) -> None:
    """Each synthetic patient has its own stain and prevalence, which a random split reveals."""
    write_shards("24:2400:0", tmp_path / "synthetic", "synthetic", workers=1)
    _code, output = inspect(str(tmp_path / "synthetic"), "--json")
    assert json.loads(output)["color_model"]["gap"] > 0.03
