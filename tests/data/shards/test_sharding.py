"""Sharding writes all usable patches and accounts for each file, or leaves nothing behind."""

import hashlib
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from raysearch.data.files import Folder
from raysearch.data.shards.shard_manifest import read_manifest
from raysearch.data.shards.sharding import parse_size, write_shards
from raysearch.data.sources.listing import SourceOptions
from raysearch.errors import DataError
from support.source_images import (
    decompression_bomb,
    noise_patch,
    png_bytes,
    rejections,
    shard_source,
    write_idc_file,
)
from support.tiff_files import tiff_bytes


def test_a_row_has_the_pixels_of_the_patch_and_its_origin(idc: Path, tmp_path: Path) -> None:
    manifest = shard_source(idc, tmp_path, "idc")
    assert (manifest.rows, manifest.rejected, manifest.files, manifest.patients) == (8, 0, 8, 2)
    assert manifest.shape == (50, 50, 3)
    table = pq.read_table(tmp_path / "out" / "part-00000.parquet")
    assert table.column("patient").to_pylist() == ["8863"] * 4 + ["8864"] * 4
    for row in table.to_pylist():
        pixels = np.asarray(Image.open(idc / row["source"]))
        assert row["pixels"] == pixels.tobytes()
        assert row["sha256"] == hashlib.sha256(pixels.tobytes()).digest()
        assert f"_x{row['x']}_y{row['y']}_class{row['label']}.png" in row["source"]
        assert row["resize_mode"] == "as is"


def test_pixels_are_stored_so_that_they_can_be_read_without_copying(
    idc: Path, tmp_path: Path
) -> None:
    shard_source(idc, tmp_path, "idc")
    column = pq.ParquetFile(tmp_path / "out" / "part-00000.parquet").metadata.row_group(0).column(0)
    assert column.path_in_schema == "pixels"
    assert column.compression == "UNCOMPRESSED"
    assert not column.has_dictionary_page
    assert column.physical_type == "FIXED_LEN_BYTE_ARRAY"


def test_each_bad_file_is_rejected_by_name_and_the_others_are_sharded(
    idc: Path, tmp_path: Path
) -> None:
    good = png_bytes(noise_patch(1))
    write_idc_file(idc, "8865", 0, 1, 1, good[: len(good) // 2])
    write_idc_file(idc, "8865", 0, 51, 1, b"this is no image")
    write_idc_file(idc, "8865", 0, 101, 1, decompression_bomb())
    write_idc_file(idc, "8865", 0, 151, 1, b"")
    jpeg = io.BytesIO()
    Image.fromarray(noise_patch(2)).save(jpeg, "JPEG")
    write_idc_file(idc, "8865", 0, 201, 1, jpeg.getvalue())
    (idc / "8863" / "0" / "notes.txt").write_text("hello")
    other_class = write_idc_file(idc, "8863", 1, 301, 1, good)
    other_class.rename(idc / "8863" / "0" / other_class.name)
    other_patient = write_idc_file(idc, "9999", 1, 301, 1, good)
    other_patient.rename(idc / "8863" / "1" / other_patient.name)
    manifest = shard_source(idc, tmp_path, "idc")
    assert manifest.rows == 8
    assert manifest.rows + manifest.rejected == manifest.files == 16
    reasons = {Path(name).name: reason for name, reason in rejections(tmp_path).items()}
    assert reasons["8865_idx5_x1_y1_class0.png"] == "truncated"
    assert reasons["8865_idx5_x51_y1_class0.png"] == "not an image"
    assert "more than 50,000,000 pixels" in reasons["8865_idx5_x101_y1_class0.png"]
    assert reasons["8865_idx5_x151_y1_class0.png"] == "empty file"
    assert reasons["8865_idx5_x201_y1_class0.png"] == "JPEG under the extension of PNG"
    assert reasons["notes.txt"].startswith("not named")
    assert reasons["8863_idx5_x301_y1_class1.png"] == "class 1 in its name, folder 0"
    assert reasons["9999_idx5_x301_y1_class1.png"] == "patient 9999 in its name, folder 8863"


@pytest.mark.parametrize(
    ("create", "message"),
    [
        (lambda _root: None, "no such folder"),
        (lambda root: root.mkdir(), "no files in it"),
        (lambda root: root.write_text("x"), "not a folder"),
        (
            lambda root: write_idc_file(root, "1", 0, 1, 1, b"x"),
            "none of its 1 files is a usable patch",
        ),
    ],
)
def test_a_source_that_cannot_be_used_is_rejected(
    tmp_path: Path, create: Callable[[Path], object], message: str
) -> None:
    create(tmp_path / "source")
    with pytest.raises(DataError, match=message):
        shard_source(tmp_path / "source", tmp_path, "idc")
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".*"))


def test_a_missing_source_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        write_shards(str(tmp_path / "nowhere"), tmp_path / "new" / "out", "idc", workers=1)
    assert not list(tmp_path.iterdir())


def test_the_most_frequent_size_is_used_and_smaller_images_are_padded(
    class_folders: Path, tmp_path: Path
) -> None:
    manifest = shard_source(class_folders, tmp_path, "folder", patient=r"(case\d)")
    assert manifest.shape == (40, 60, 3)
    assert manifest.class_names == ("benign", "tumor")
    assert manifest.resize_modes == {"as is": 3, "padded": 1}
    assert manifest.patients == 2
    assert manifest.warnings == ()
    table = pq.read_table(tmp_path / "out" / "part-00000.parquet").to_pylist()
    row = next(row for row in table if row["resize_mode"] == "padded")
    pixels = np.frombuffer(row["pixels"], np.uint8).reshape(40, 60, 3)
    assert (pixels[20:] == 255).all()
    assert (pixels[:, 30:] == 255).all()
    assert (pixels[:20, :30] == noise_patch(3, 20, 30)).all()


@pytest.mark.parametrize("text", ["0", "50x", "x", "-1", "5000", "1x2x3", "a", "½"])
def test_a_malformed_size_is_rejected(text: str) -> None:
    with pytest.raises(DataError, match="is not a size; give N or WxH"):
        parse_size(text)


def test_a_size_is_width_by_height() -> None:
    assert parse_size("50") == (50, 50)
    assert parse_size("700x460") == (700, 460)


def test_a_name_that_a_shard_cannot_contain_is_rejected(
    idc: Path, class_folders: Path, tmp_path: Path
) -> None:
    write_idc_file(idc, "8863", 0, 99_999_999_999, 1, png_bytes(noise_patch(1)))
    manifest = shard_source(idc, tmp_path, "idc")
    assert (manifest.rows, manifest.rejected, manifest.files) == (8, 1, 9)
    name = os.fsdecode(b"case1_\xff.png")
    (class_folders / "benign" / name).write_bytes(png_bytes(noise_patch(1, 40, 60)))
    manifest = write_shards(str(class_folders), tmp_path / "two", "folder", workers=1)
    assert (manifest.rows, manifest.rejected, manifest.files) == (4, 1, 5)
    assert b"case1_\xff.png,its name is not UTF-8" in (tmp_path / "two/rejected.csv").read_bytes()


def start_sharding(idc: Path, tmp_path: Path) -> subprocess.Popen[bytes]:
    """Start the command, and wait until it writes its shards."""
    for number in range(4000):
        write_idc_file(idc, "8865", 0, 1 + 50 * number, 1, png_bytes(noise_patch(number)))
    command = [str(Path(sys.executable).with_name("raysearch")), "shard", str(idc)]
    process = subprocess.Popen(
        [*command, str(tmp_path / "out"), "--format", "idc"],
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    while process.poll() is None and not list(tmp_path.glob(".out.*")):
        time.sleep(0.01)
    return process


@pytest.mark.slow
def test_an_interrupted_command_leaves_no_file_and_prints_no_error(
    idc: Path, tmp_path: Path
) -> None:
    process = start_sharding(idc, tmp_path)
    os.killpg(process.pid, signal.SIGINT)
    output = process.communicate(timeout=60)[1].decode()
    assert "Error" not in output, output
    assert process.returncode == 130, output
    assert [path.name for path in tmp_path.iterdir()] == ["idc"]


@pytest.mark.slow
def test_the_files_of_a_killed_command_are_no_shards_and_the_next_run_removes_them(
    idc: Path, tmp_path: Path
) -> None:
    process = start_sharding(idc, tmp_path)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    (partial,) = tmp_path.glob(".out.*")
    with pytest.raises(DataError, match="manifest"):
        read_manifest(Folder(partial))
    assert shard_source(idc, tmp_path, "idc").rows == 4008
    assert sorted(path.name for path in tmp_path.iterdir()) == ["idc", "out"]


def test_a_full_disk_is_reported_and_no_file_is_left(idc: Path, tmp_path: Path) -> None:
    small_disk = tmp_path / "small"
    small_disk.mkdir()
    for number in range(300):
        write_idc_file(idc, "8865", 0, 1 + 50 * number, 1, png_bytes(noise_patch(number)))
    in_namespace = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    mount = f"mount -t tmpfs -o size=1m none {small_disk} &&"
    if subprocess.run(
        [*in_namespace, f"{mount} true"], capture_output=True, check=False
    ).returncode:
        pytest.skip("a small disk cannot be mounted here")
    command = f"{Path(sys.executable).with_name('raysearch')} shard {idc} {small_disk}/out"
    completed = subprocess.run(
        [*in_namespace, f"{mount} {command}; code=$?; ls -A {small_disk}; exit $code"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert completed.returncode == 2
    assert completed.stdout == ""
    (line,) = completed.stderr.strip().splitlines()
    message = f"{small_disk}/out: cannot be written (No space left on device, after "
    assert line.startswith(f"raysearch: {message}")


@pytest.mark.slow
def test_all_files_of_the_real_patches_are_accounted_for(shared: Path, tmp_path: Path) -> None:
    archive = shared / "data" / "idc.tar"
    subprocess.run(["tar", "-xf", archive, "-C", tmp_path], check=True)
    manifest = write_shards(str(tmp_path / "idc"), tmp_path / "out", "idc")
    assert manifest.files == manifest.rows + manifest.rejected == 8605
    assert manifest.patients == 203
    assert manifest.class_counts == (6293, 2312)
    assert manifest.resize_modes == {"as is": 8533, "padded": 72}


def test_changes_of_images_and_reasons_of_rejection_are_counted_in_the_manifest(
    class_folders: Path, tmp_path: Path
) -> None:
    patch = noise_patch(9, 40, 60)
    exif = Image.Exif()
    exif[0x0112] = 3
    pages = [Image.fromarray(patch)] * 2
    clear = np.dstack([patch, np.zeros((40, 60), np.uint8)])
    Image.fromarray(clear).save(class_folders / "tumor" / "clear.png")
    Image.fromarray(patch).save(class_folders / "tumor" / "turned.png", exif=exif)
    pages[0].save(class_folders / "tumor" / "camera.jpg", "MPO", save_all=True)
    pages[0].save(class_folders / "tumor" / "pages.tif", save_all=True, append_images=pages[1:])
    (class_folders / "tumor" / "deep.tif").write_bytes(tiff_bytes(patch.astype(np.uint16) * 16))
    manifest = shard_source(class_folders, tmp_path, "folder")
    assert (manifest.rows, manifest.rejected) == (7, 2)
    assert manifest.image_changes["transparency replaced by white"] == 1
    assert manifest.image_changes["EXIF orientation applied"] == 1
    reasons = rejections(tmp_path)
    assert "several pages" in reasons["tumor/pages.tif"]
    assert "more than 8 bits a channel" in reasons["tumor/deep.tif"]
    assert manifest.rejections == dict.fromkeys(reasons.values(), 1)
    scaled = write_shards(
        str(class_folders), tmp_path / "deep", "folder", options=SourceOptions(depth=12), workers=1
    )
    assert scaled.rows == 8
    assert scaled.image_changes["scaled from 12 to 8 bits"] == 1


@pytest.mark.parametrize(("source", "depth"), [("4:40:1", 12), ("4:40:1", 17), ("4:40:1", 8)])
def test_a_depth_that_cannot_be_used_is_rejected(tmp_path: Path, source: str, depth: int) -> None:
    with pytest.raises(DataError, match=r"--depth( \d+)?: (has no effect|not a number of bits)"):
        write_shards(source, tmp_path / "out", None, options=SourceOptions(depth=depth), workers=1)
    assert not list(tmp_path.iterdir())
