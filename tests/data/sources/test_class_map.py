"""Classes of a source are renamed and merged, so that the same images serve another task."""

from pathlib import Path

import pytest
from PIL import Image

from raysearch.cli import run
from raysearch.data.sources.class_map import parse_class_map
from raysearch.errors import DataError
from support.pcam_files import write_pcam
from support.source_images import shard_columns, shard_source, synthetic_patches, write_csv_source

CONFOCAL = ("adipose", "fibrous", "other")
REVIEW = {"adipose": "no_review", "fibrous": "no_review", "other": "review"}
TABLE = "path,label,patient\n0.png,b,p\n1.png,a,q\n2.png,c,r\n3.png,,s\n"


@pytest.fixture
def confocal(tmp_path: Path) -> Path:
    """A folder with two images of each of three classes."""
    for number, image in enumerate(synthetic_patches(6, 20)):
        path = tmp_path / "confocal" / CONFOCAL[number % 3] / f"S{number}_1.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return tmp_path / "confocal"


def test_classes_of_folders_are_merged_in_the_order_of_the_old_ones(
    confocal: Path, tmp_path: Path
) -> None:
    manifest = shard_source(confocal, tmp_path, "folder", class_map=REVIEW)
    assert (manifest.class_names, manifest.class_counts) == (("no_review", "review"), (4, 2))
    columns = shard_columns(tmp_path, "source", "label")
    labels = dict(zip(columns["source"], columns["label"], strict=True))
    assert {file: label for file, label in labels.items() if "other" in file} == {
        "other/S2_1.png": 1,
        "other/S5_1.png": 1,
    }
    assert sum(labels.values()) == 2


def test_classes_that_are_named_choose_the_images_and_the_order(
    confocal: Path, tmp_path: Path
) -> None:
    class_map = {"other": "malignant", "fibrous": "benign"}
    classes = ("other", "fibrous")
    manifest = shard_source(confocal, tmp_path, "folder", classes=classes, class_map=class_map)
    assert (manifest.class_names, manifest.class_counts) == (("malignant", "benign"), (2, 2))
    assert manifest.rejected == 2


def test_a_class_without_a_new_name_keeps_its_own_and_no_label_stays_none(tmp_path: Path) -> None:
    source = write_csv_source(tmp_path / "set", TABLE)
    manifest = shard_source(source, tmp_path, class_map={"a": "c"})
    assert (manifest.class_names, manifest.class_counts) == (("c", "b"), (2, 1))
    assert shard_columns(tmp_path, "label")["label"] == [1, 0, 0, None]


def test_the_classes_of_a_data_set_with_own_names_are_renamed(tmp_path: Path) -> None:
    write_pcam(tmp_path / "pcam", "train")
    class_map = {"negative": "benign", "positive": "metastasis"}
    manifest = shard_source(tmp_path / "pcam", tmp_path, class_map=class_map)
    assert manifest.class_names == ("benign", "metastasis")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("adipose", "--class-map adipose: cannot be read; write it as in 0=negative,1=positive"),
        ("adipose=", "cannot be read"),
        ("adipose=a,adipose=b", "a class is named twice"),
        ("fat=benign", "fat=...: not a class of"),
    ],
)
def test_a_class_map_that_cannot_be_used_is_rejected_in_one_line(
    confocal: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    text: str,
    message: str,
) -> None:
    words = ["shard", str(confocal), str(tmp_path / "out"), "--format", "folder"]
    assert run([*words, "--class-map", text]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_an_unknown_class_is_answered_with_the_known_ones(confocal: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="its classes are adipose, fibrous, other"):
        shard_source(confocal, tmp_path, "folder", class_map=parse_class_map("fat=benign"))


def test_synthetic_patches_have_no_other_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["shard", "6:60:0", str(tmp_path / "out"), "--class-map", "negative=benign"]
    assert run(words) == 2
    assert "--class-map: has no effect with format synthetic" in capsys.readouterr().err
