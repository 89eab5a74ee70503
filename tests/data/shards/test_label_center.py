"""The center on which labels depend is recorded with the shards, in pixels of their patches."""

from pathlib import Path

import pytest
from PIL import Image

from raysearch.cli import run
from raysearch.data.files import Folder
from raysearch.data.shards.rows import load_rows
from raysearch.data.shards.shard_manifest import read_manifest
from raysearch.data.shards.sharding import write_shards
from raysearch.errors import DataError
from support.pcam_files import write_pcam, write_pcam_kaggle
from support.source_images import synthetic_patches


def center_of(folder: Path) -> int | None:
    assert load_rows(str(folder)).center == read_manifest(Folder(folder)).center
    return read_manifest(Folder(folder)).center


def test_the_labels_of_pcam_are_of_the_32_pixels_in_the_center(tmp_path: Path) -> None:
    images = write_pcam(tmp_path / "pcam", "train")
    write_pcam_kaggle(tmp_path / "kaggle", images)
    for name in ("pcam", "kaggle"):
        write_shards(str(tmp_path / name), tmp_path / "out" / name, None, workers=1)
        assert center_of(tmp_path / "out" / name) == 32


def test_the_center_is_scaled_with_the_images_and_never_padded(tmp_path: Path) -> None:
    write_pcam(tmp_path / "pcam", "train")
    write_shards(str(tmp_path / "pcam"), tmp_path / "small", None, size=(48, 48), workers=1)
    assert center_of(tmp_path / "small") == 16
    write_shards(str(tmp_path / "pcam"), tmp_path / "odd", None, size=(50, 50), workers=1)
    assert center_of(tmp_path / "odd") == 17
    with pytest.raises(DataError, match="--size 128x128: would pad images of 96x96 pixels"):
        write_shards(str(tmp_path / "pcam"), tmp_path / "large", None, size=(128, 128), workers=1)
    assert not (tmp_path / "large").exists()


def test_other_labels_are_of_the_whole_patch_unless_the_user_names_a_center(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["shard", "4:16:0", str(tmp_path / "whole")]
    assert run(words) == 0
    assert center_of(tmp_path / "whole") is None
    assert "pixels in the center" not in capsys.readouterr().out
    assert run(["shard", "4:16:0", str(tmp_path / "center"), "--center", "20"]) == 0
    assert center_of(tmp_path / "center") == 20
    assert "of the 20 pixels in the center" in capsys.readouterr().out


@pytest.mark.parametrize("center", ["0", "51"])
def test_a_center_that_is_no_part_of_a_patch_is_rejected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], center: str
) -> None:
    assert run(["shard", "4:16:0", str(tmp_path / "out"), "--center", center]) == 2
    error = capsys.readouterr().err
    assert f"--center {center}: not a side in patches of 50x50 pixels; give 1 to 50" in error
    assert not (tmp_path / "out").exists()


def test_a_center_is_not_named_for_pcam_which_knows_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pcam(tmp_path / "pcam", "train", synthetic_patches(4))
    assert run(["shard", str(tmp_path / "pcam"), str(tmp_path / "out"), "--center", "48"]) == 2
    assert "--center: has no effect with format pcam" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("side", "size", "mode"), [(40, [], "padded"), (60, [], "scaled"), (50, ["--size", "40"], "")]
)
def test_a_center_is_rejected_if_an_image_is_padded_or_scaled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], side: int, size: list[str], mode: str
) -> None:
    for number, patch in enumerate(synthetic_patches(6)):
        folder = tmp_path / "images" / f"{number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(patch).resize((50, 50))
        if number == 5:
            image = image.resize((side, side))
        image.save(folder / f"p{number}.png")
    words = ["shard", str(tmp_path / "images"), str(tmp_path / "out"), "--format", "folder"]
    assert run([*words, *size, "--center", "20"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("raysearch: --center 20: ")
    assert f"the center of its patch ({mode}" in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images"]
    assert run([*words, *size]) == 0
