import csv
import errno
import hashlib
import io
import json
import os
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from raysearch.data.atomic_directory import atomic_directory
from raysearch.data.files import Folder
from raysearch.data.patches import load_patches, load_rows
from raysearch.data.shards.decoding import RejectedImageError, decode, image_size
from raysearch.data.shards.shard_manifest import Manifest, read_manifest
from raysearch.data.shards.sharding import parse_size, write_shards
from raysearch.data.sources.listing import Ask
from raysearch.errors import DataError


def png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def patch(seed: int, height: int = 50, width: int = 50) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def bomb(width: int = 60_000, height: int = 60_000) -> bytes:
    """A small PNG file that says it is a huge picture."""

    def chunk(name: bytes, content: bytes) -> bytes:
        sum_of = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + sum_of

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1_000_000), 9)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def idc_file(root: Path, patient: str, label: int, x: int, y: int, content: bytes) -> Path:
    path = root / patient / str(label) / f"{patient}_idx5_x{x}_y{y}_class{label}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture
def idc(tmp_path: Path) -> Path:
    root = tmp_path / "idc"
    for patient in ("8863", "8864"):
        for label in (0, 1):
            for x in (1, 51):
                place = int(patient) + label + x
                idc_file(root, patient, label, x, 1 + 50 * label, png(patch(place)))
    return root


def shard(source: Path, tmp_path: Path, form: str = "idc", **options: object) -> Manifest:
    return write_shards(str(source), tmp_path / "out", form, workers=1, **options)  # type: ignore[arg-type]


def rejections(tmp_path: Path) -> dict[str, str]:
    with (tmp_path / "out" / "rejected.csv").open(newline="") as file:
        return {row["file"]: row["reason"] for row in csv.DictReader(file)}


def test_a_row_holds_the_patch_pixel_by_pixel_and_where_it_is_from(
    idc: Path, tmp_path: Path
) -> None:
    manifest = shard(idc, tmp_path)
    assert (manifest.rows, manifest.rejected, manifest.files, manifest.patients) == (8, 0, 8, 2)
    assert manifest.shape == (50, 50, 3)
    table = pq.read_table(tmp_path / "out" / "part-00000.parquet")
    assert table.column("patient").to_pylist() == ["8863"] * 4 + ["8864"] * 4
    for row in table.to_pylist():
        pixels = np.asarray(Image.open(idc / row["source"]))
        assert row["pixels"] == pixels.tobytes()
        assert row["sha256"] == hashlib.sha256(pixels.tobytes()).digest()
        assert f"_x{row['x']}_y{row['y']}_class{row['label']}.png" in row["source"]
        assert row["fitted"] == "as is"


def test_shards_are_written_as_their_readers_want_them(idc: Path, tmp_path: Path) -> None:
    shard(idc, tmp_path)
    column = pq.ParquetFile(tmp_path / "out" / "part-00000.parquet").metadata.row_group(0).column(0)
    assert column.path_in_schema == "pixels"
    assert column.compression == "UNCOMPRESSED"
    assert not column.has_dictionary_page
    assert column.physical_type == "FIXED_LEN_BYTE_ARRAY"


def test_every_bad_file_is_rejected_by_name_and_the_rest_goes_on(idc: Path, tmp_path: Path) -> None:
    good = png(patch(1))
    idc_file(idc, "8865", 0, 1, 1, good[: len(good) // 2])
    idc_file(idc, "8865", 0, 51, 1, b"this is no picture")
    idc_file(idc, "8865", 0, 101, 1, bomb())
    idc_file(idc, "8865", 0, 151, 1, b"")
    jpeg = io.BytesIO()
    Image.fromarray(patch(2)).save(jpeg, "JPEG")
    idc_file(idc, "8865", 0, 201, 1, jpeg.getvalue())
    (idc / "8863" / "0" / "notes.txt").write_text("hello")
    moved = idc_file(idc, "8863", 1, 301, 1, good)
    moved.rename(idc / "8863" / "0" / moved.name)
    alien = idc_file(idc, "9999", 1, 301, 1, good)
    alien.rename(idc / "8863" / "1" / alien.name)
    manifest = shard(idc, tmp_path)
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


def test_the_archives_second_copy_is_left_out(idc: Path, tmp_path: Path) -> None:
    nested = idc / "IDC_regular_ps50_idx5"
    idc_file(nested, "8863", 0, 1, 1, png(patch(1)))
    assert shard(idc, tmp_path).files == 8
    (tmp_path / "alone").mkdir()
    nested.rename(tmp_path / "alone" / nested.name)
    assert write_shards(str(tmp_path / "alone"), tmp_path / "two", "idc", workers=1).rows == 1


def test_two_labels_at_one_place_are_rejected_and_nothing_is_written(
    idc: Path, tmp_path: Path
) -> None:
    idc_file(idc, "8863", 1, 1, 1, png(patch(1)))
    with pytest.raises(DataError, match="two labels for patient 8863 at x 1, y 1"):
        shard(idc, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["idc"]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda _root: None, "no such folder"),
        (lambda root: root.mkdir(), "no files in it"),
        (lambda root: root.write_text("x"), "not a folder"),
        (lambda root: idc_file(root, "1", 0, 1, 1, b"x"), "none of its 1 files is a usable patch"),
    ],
)
def test_a_source_that_cannot_be_used_is_rejected(
    tmp_path: Path, make: Callable[[Path], object], said: str
) -> None:
    make(tmp_path / "source")
    with pytest.raises(DataError, match=said):
        shard(tmp_path / "source", tmp_path)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".*"))


def test_a_source_that_is_not_there_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        write_shards(str(tmp_path / "nowhere"), tmp_path / "new" / "out", "idc", workers=1)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_there_is_not_overwritten(idc: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("x")
    with pytest.raises(DataError, match="is there already"):
        shard(idc, tmp_path)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    root = tmp_path / "tissue"
    for number, (name, height, width) in enumerate(
        [("benign", 40, 60), ("benign", 40, 60), ("tumour", 40, 60), ("tumour", 20, 30)]
    ):
        path = root / name / f"case{number % 2}_{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(patch(number, height, width)))
    return root


def test_a_folder_takes_its_most_frequent_size_and_pads_the_rest(
    classes: Path, tmp_path: Path
) -> None:
    manifest = shard(classes, tmp_path, "folder", ask=Ask(patient=r"(case\d)"))
    assert manifest.shape == (40, 60, 3)
    assert manifest.class_names == ("benign", "tumour")
    assert manifest.fitted == {"as is": 3, "padded": 1}
    assert manifest.patients == 2
    assert manifest.warnings == ()
    table = pq.read_table(tmp_path / "out" / "part-00000.parquet").to_pylist()
    row = next(row for row in table if row["fitted"] == "padded")
    pixels = np.frombuffer(row["pixels"], np.uint8).reshape(40, 60, 3)
    assert (pixels[20:] == 255).all()
    assert (pixels[:, 30:] == 255).all()
    assert (pixels[:20, :30] == patch(3, 20, 30)).all()


def test_without_a_patient_each_file_is_its_own_and_the_manifest_warns(
    classes: Path, tmp_path: Path
) -> None:
    manifest = shard(classes, tmp_path, "folder")
    assert manifest.patients == 4
    assert "--patient REGEX" in manifest.warnings[0]
    assert load_rows(str(tmp_path / "out")).warnings == manifest.warnings


def test_a_file_without_a_patient_is_rejected(classes: Path, tmp_path: Path) -> None:
    manifest = shard(classes, tmp_path, "folder", ask=Ask(patient=r"case0"))
    assert (manifest.rows, manifest.rejected) == (2, 2)
    assert set(rejections(tmp_path).values()) == {"no patient in its path by --patient"}
    with pytest.raises(DataError, match="no regular expression"):
        write_shards(str(classes), tmp_path / "two", "folder", ask=Ask(patient="("))


def test_a_larger_image_is_scaled_by_area() -> None:
    pixels = np.zeros((100, 100, 3), np.uint8)
    pixels[:, ::2] = 200
    found, how = decode(png(pixels), "x.png", (50, 50))
    assert how == "scaled"
    assert (found == 100).all()
    found, how = decode(png(pixels), "x.png", (50, 80))
    assert how == "scaled+padded"
    assert found.shape == (80, 50, 3)
    assert (found[50:] == 255).all()


def test_a_decompression_bomb_is_rejected_by_its_header() -> None:
    with pytest.raises(RejectedImageError, match="more than 50,000,000 pixels"):
        image_size(bomb(), "x.png")
    with pytest.raises(RejectedImageError, match="more than 50,000,000 pixels"):
        decode(bomb(10_000, 9_000), "x.png", (50, 50))


@pytest.mark.parametrize("text", ["0", "50x", "x", "-1", "5000", "1x2x3", "a", "½"])
def test_a_size_that_is_none_is_rejected(text: str) -> None:
    with pytest.raises(DataError, match="is not a size; give N or WxH"):
        parse_size(text)


def test_a_size_is_width_by_height() -> None:
    assert parse_size("50") == (50, 50)
    assert parse_size("700x460") == (700, 460)


@pytest.mark.parametrize("source", ["24", "a:b:c", "1:10:0", "10:5:0", "1:2:3:4"])
def test_a_synthetic_source_that_is_none_is_rejected(tmp_path: Path, source: str) -> None:
    with pytest.raises(DataError, match="PATIENTS:PATCHES:SEED"):
        write_shards(source, tmp_path / "out", "synthetic", workers=1)


def test_the_synthetic_set_is_the_same_each_time(shards: Path, tmp_path: Path) -> None:
    again = write_shards("12:240:3", tmp_path / "out", "synthetic", workers=2)
    assert again.fingerprint == read_manifest(Folder(shards)).fingerprint
    rows = load_rows(str(shards))
    for patient in np.unique(rows.patients):
        assert (rows.patients == patient).sum() == 20


def test_a_flipped_byte_is_rejected_by_the_shards_name(idc: Path, tmp_path: Path) -> None:
    shard(idc, tmp_path)
    path = tmp_path / "out" / "part-00000.parquet"
    good = path.read_bytes()
    for place in range(1000, len(good), 9973):
        path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        with pytest.raises(DataError, match=r"part-00000\.parquet: .*again"):
            load_patches(str(tmp_path / "out"), tmp_path / "cache")
    path.unlink()
    with pytest.raises(DataError, match=r"part-00000\.parquet: missing"):
        load_rows(str(tmp_path / "out"))


def test_a_manifest_that_was_changed_is_rejected(idc: Path, tmp_path: Path) -> None:
    shard(idc, tmp_path)
    path = tmp_path / "out" / "manifest.json"
    stored = json.loads(path.read_text())
    stored["shards"][0]["sha256"] = "0" * 64
    path.write_text(json.dumps(stored))
    with pytest.raises(DataError, match="changed"):
        load_rows(str(tmp_path / "out"))
    path.write_text("{")
    with pytest.raises(DataError, match="not a manifest"):
        load_rows(str(tmp_path / "out"))
    with pytest.raises(DataError, match="no manifest"):
        load_rows(str(idc))


def test_a_patient_that_is_empty_is_rejected(classes: Path, tmp_path: Path) -> None:
    manifest = shard(classes, tmp_path, "folder", ask=Ask(patient=r"case(0?)"))
    assert (manifest.rows, manifest.rejected) == (2, 2)
    with pytest.raises(DataError, match="no patient in its path by --patient"):
        write_shards(str(classes), tmp_path / "two", "folder", ask=Ask(patient=r"(no)?"), workers=1)


def test_a_name_that_a_shard_cannot_hold_is_rejected(
    idc: Path, classes: Path, tmp_path: Path
) -> None:
    idc_file(idc, "8863", 0, 99_999_999_999, 1, png(patch(1)))
    manifest = shard(idc, tmp_path)
    assert (manifest.rows, manifest.rejected, manifest.files) == (8, 1, 9)
    (classes / "benign" / os.fsdecode(b"case1_\xff.png")).write_bytes(png(patch(1, 40, 60)))
    manifest = write_shards(str(classes), tmp_path / "two", "folder", workers=1)
    assert (manifest.rows, manifest.rejected, manifest.files) == (4, 1, 5)
    assert b"case1_\xff.png,its name is not UTF-8" in (tmp_path / "two/rejected.csv").read_bytes()


@pytest.mark.parametrize(("kind", "file"), [(np.uint16, "x.png"), (np.float32, "x.tif")])
def test_deep_grey_is_rejected_rather_than_cut_off(
    kind: type[np.uint16] | type[np.float32], file: str
) -> None:
    buffer = io.BytesIO()
    image = Image.fromarray(np.full((50, 50), 1000, kind))
    image.save(buffer, "PNG" if file.endswith("png") else "TIFF")
    with pytest.raises(RejectedImageError, match="more than 8 bits a channel"):
        decode(buffer.getvalue(), file, (50, 50))


def test_an_out_that_cannot_be_made_is_rejected(idc: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match=r"cannot be written .Not a directory"):
        write_shards(str(idc), tmp_path / "file" / "out", "idc", workers=1)


def test_a_missing_shard_is_named_when_the_pixels_are_unpacked(idc: Path, tmp_path: Path) -> None:
    shard(idc, tmp_path)
    (tmp_path / "out" / "part-00000.parquet").unlink()
    with pytest.raises(DataError, match=r"part-00000\.parquet: missing"):
        load_patches(str(tmp_path / "out"), tmp_path / "cache")


def test_labels_come_with_the_pixels_that_were_checked(idc: Path, tmp_path: Path) -> None:
    shard(idc, tmp_path)
    labels = load_patches(str(tmp_path / "out"), tmp_path / "cache").labels
    path = tmp_path / "out" / "part-00000.parquet"
    table = pq.read_table(path)
    swapped = pa.array((1 - labels).tolist(), pa.int16())
    pq.write_table(table.set_column(1, "label", swapped), path, write_page_checksum=True)
    assert (load_patches(str(tmp_path / "out"), tmp_path / "cache").labels == labels).all()
    with pytest.raises(DataError, match="its hash is not the manifest's"):
        load_patches(str(tmp_path / "out"), tmp_path / "fresh")


@pytest.mark.parametrize("kind", ["npy", "parquet"])
def test_a_damaged_pixel_file_is_rejected(idc: Path, tmp_path: Path, kind: str) -> None:
    shard(idc, tmp_path)
    load_patches(str(tmp_path / "out"), tmp_path / "cache")
    (path,) = (tmp_path / "cache" / "pixels").glob(f"*.{kind}")
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(DataError, match="damaged; remove it, and start again"):
        load_patches(str(tmp_path / "out"), tmp_path / "cache")


def test_a_cache_without_room_is_rejected_and_left_clean(
    idc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    shard(idc, tmp_path)
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(DataError, match=r"No space left on device.*RAYSEARCH_CACHE"):
        load_patches(str(tmp_path / "out"), tmp_path / "cache")
    left = (tmp_path / "cache" / "pixels").iterdir()
    assert [path.suffix for path in left] == [".lock"]


def test_a_manifest_whose_counts_differ_is_rejected(idc: Path, tmp_path: Path) -> None:
    shard(idc, tmp_path)
    path = tmp_path / "out" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "rows": 3}))
    with pytest.raises(DataError, match="changed"):
        load_patches(str(tmp_path / "out"), tmp_path / "cache")


def begun(idc: Path, tmp_path: Path) -> subprocess.Popen[bytes]:
    """The command, writing its shards."""
    for number in range(4000):
        idc_file(idc, "8865", 0, 1 + 50 * number, 1, png(patch(number)))
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
def test_an_interrupted_shard_leaves_nothing_and_says_nothing(idc: Path, tmp_path: Path) -> None:
    process = begun(idc, tmp_path)
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=60)[1].decode()
    assert "Error" not in said, said
    assert process.returncode == 130, said
    assert [path.name for path in tmp_path.iterdir()] == ["idc"]


@pytest.mark.slow
def test_what_a_killed_shard_left_is_no_data_and_goes_with_the_next_run(
    idc: Path, tmp_path: Path
) -> None:
    process = begun(idc, tmp_path)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    (left,) = tmp_path.glob(".out.*")
    with pytest.raises(DataError, match="manifest"):
        read_manifest(Folder(left))
    assert shard(idc, tmp_path).rows == 4008
    assert sorted(path.name for path in tmp_path.iterdir()) == ["idc", "out"]


def test_the_folder_of_a_shard_that_is_being_written_is_left_alone(tmp_path: Path) -> None:
    with atomic_directory(tmp_path / "out") as first:
        (first / "rows").write_text("1")
        with atomic_directory(tmp_path / "out") as second:
            (second / "rows").write_text("2")
        assert (first / "rows").exists()
        (tmp_path / "out" / "rows").unlink()  # so that the first may take its place
    assert (tmp_path / "out" / "rows").read_text() == "1"


def test_a_full_disk_is_told_and_nothing_is_left(idc: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    for number in range(300):
        idc_file(idc, "8865", 0, 1 + 50 * number, 1, png(patch(number)))
    inside = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    mount = f"mount -t tmpfs -o size=1m none {small} &&"
    if subprocess.run([*inside, f"{mount} true"], capture_output=True, check=False).returncode:
        pytest.skip("a small disk cannot be mounted here")
    command = f"{Path(sys.executable).with_name('raysearch')} shard {idc} {small}/out"
    ended = subprocess.run(
        [*inside, f"{mount} {command}; code=$?; ls -A {small}; exit $code"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stdout == ""
    (line,) = ended.stderr.strip().splitlines()
    assert line.startswith(f"raysearch: {small}/out: cannot be written (No space left on device)")


@pytest.mark.slow
def test_all_of_the_real_patches_are_accounted_for(shared: Path, tmp_path: Path) -> None:
    archive = shared / "data" / "idc.tar"
    subprocess.run(["tar", "-xf", archive, "-C", tmp_path], check=True)
    manifest = write_shards(str(tmp_path / "idc"), tmp_path / "out", "idc")
    assert manifest.files == manifest.rows + manifest.rejected == 8605
    assert manifest.patients == 203
    assert manifest.class_counts == (6293, 2312)
    assert manifest.fitted == {"as is": 8533, "padded": 72}


def test_decoding_processes_end_with_the_one_that_was_killed(tmp_path: Path) -> None:
    """Even without a word: they hold the pipe themselves at which they wait."""
    script = (
        "import os, sys, time\n"
        "from raysearch.data.shards.worker_processes import working\n"
        "if __name__ == '__main__':\n"
        "    with working(2) as pool:\n"
        "        print(*{pool.submit(os.getpid).result() for _ in range(50)}, flush=True)\n"
        "        time.sleep(60)\n"
    )
    file = tmp_path / "decoding.py"
    file.write_text(script)
    words = [sys.executable, str(file)]
    parent = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    with parent:
        assert parent.stdout is not None
        workers = [Path("/proc") / pid for pid in parent.stdout.readline().split()]
        assert workers
        parent.kill()
    until = time.monotonic() + 20
    while any(map(works, workers)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(works, workers))


def works(process: Path) -> bool:
    """Whether `process`, its folder below /proc, is there, and not just unburied."""
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
