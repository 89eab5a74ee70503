"""All processes of a node map one pixel file, which is complete and verified."""

import errno
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from werkzeug.serving import WSGIRequestHandler

from raysearch.data.files import Folder
from raysearch.data.shards.patches import load_patches
from raysearch.data.shards.shard_manifest import read_manifest
from raysearch.data.shards.sharding import write_shards
from raysearch.errors import DataError
from support.source_images import shard_source


def test_the_pixel_file_has_every_row_in_the_order_of_the_shards(
    shards: Path, tmp_path: Path
) -> None:
    patches = load_patches(str(shards), tmp_path)
    table = pq.read_table(shards / "part-00000.parquet")
    assert patches.pixels.shape == (240, 7500)
    assert patches.pixels.tobytes() == b"".join(table.column("pixels").to_pylist())
    assert patches.labels.tolist() == table.column("label").to_pylist()
    assert patches.patients.tolist() == table.column("patient").to_pylist()


def test_processes_that_start_at_once_write_one_pixel_file(shards: Path, tmp_path: Path) -> None:
    code = (
        "import sys, os; from pathlib import Path;"
        "from raysearch.data.shards.patches import load_patches;"
        "p = load_patches(sys.argv[1], Path(sys.argv[2])).pixels;"
        "print(os.stat(p.filename).st_ino, int(p.sum()))"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(shards), str(tmp_path)], stdout=subprocess.PIPE
        )
        for _ in range(3)
    ]
    outputs = {process.communicate()[0] for process in processes}
    assert len(outputs) == 1
    suffixes = [path.suffix for path in sorted((tmp_path / "pixels").iterdir())]
    assert suffixes == [".json", ".lock", ".npy", ".parquet"]


def test_a_node_fetches_each_shard_once_for_all_views(
    bucket: str, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests: list[str] = []
    monkeypatch.setattr(
        WSGIRequestHandler,
        "log_request",
        lambda handler, *_more: requests.append(f"{handler.command} {handler.path}"),
    )
    address = f"{bucket}/fetched"
    for path in shards.glob("*.*"):
        Folder(address).write(path.name, path.read_bytes())
    code = (
        "import sys; from pathlib import Path;"
        "from raysearch.data.shards.patches import load_patches;"
        "from raysearch.data.shards.rows import View; view = View(held_out=tuple(sys.argv[3:]));"
        "print(len(load_patches(sys.argv[1], Path(sys.argv[2]), view).labels))"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, address, str(tmp_path), *held_out], stdout=subprocess.PIPE
        )
        for held_out in ([], [], ["p001"])
    ]
    counts = [int(process.communicate(timeout=60)[0]) for process in processes]
    assert counts[0] == counts[1] == 240 > counts[2]
    file = "/fetched/part-00000.parquet"
    assert len([line for line in requests if line.startswith("GET ") and file in line]) == 1


# Reads every pixel, prints the kernel's statistics of the file's pages, and waits for a line.
READER = """
import sys
from pathlib import Path
from raysearch.data.shards.patches import load_patches
pixels = load_patches(sys.argv[1], Path(sys.argv[2])).pixels
print(int(pixels.sum()), flush=True)
sys.stdin.readline()
kilobytes, of_pixels = {}, False
for line in Path("/proc/self/smaps").read_text().splitlines():
    name, *values = line.split()
    if not name.endswith(":"):
        of_pixels = line.endswith(".npy")
    elif of_pixels and values[-1] == "kB":
        kilobytes[name] = kilobytes.get(name, 0) + int(values[0])
private = kilobytes["Private_Clean:"] + kilobytes["Private_Dirty:"]
print(kilobytes["Pss:"], private, pixels.nbytes // 1024)
sys.stdout.flush()
sys.stdin.readline()
"""


@pytest.mark.slow
def test_two_trials_of_a_node_use_one_copy_of_the_pixels(tmp_path: Path) -> None:
    out = tmp_path / "shards"
    write_shards("8:2000:1", out, "synthetic")
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", READER, str(out), str(tmp_path / "cache")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    statistics: list[list[int]] = []
    for _step in range(2):
        statistics = []
        for reader in readers:
            assert reader.stdout is not None
            statistics.append([int(word) for word in reader.stdout.readline().split()])
        for reader in readers:
            assert reader.stdin is not None
            reader.stdin.write("continue\n")
            reader.stdin.flush()
    for reader in readers:
        reader.communicate(timeout=30)
    for proportional_kb, private_kb, total_kb in statistics:
        assert total_kb > 14_000
        assert private_kb < total_kb / 100
        assert 0.45 * total_kb < proportional_kb < 0.55 * total_kb


def test_a_missing_shard_is_named_when_the_pixels_are_unpacked(idc: Path, tmp_path: Path) -> None:
    shard_source(idc, tmp_path, "idc")
    (tmp_path / "out" / "part-00000.parquet").unlink()
    with pytest.raises(DataError, match=r"part-00000\.parquet: missing"):
        load_patches(str(tmp_path / "out"), tmp_path / "cache")


def test_labels_are_those_of_the_verified_shard(idc: Path, tmp_path: Path) -> None:
    shard_source(idc, tmp_path, "idc")
    labels = load_patches(str(tmp_path / "out"), tmp_path / "cache").labels
    path = tmp_path / "out" / "part-00000.parquet"
    table = pq.read_table(path)
    swapped = pa.array((1 - labels).tolist(), pa.int16())
    pq.write_table(table.set_column(1, "label", swapped), path, write_page_checksum=True)
    assert (load_patches(str(tmp_path / "out"), tmp_path / "cache").labels == labels).all()
    with pytest.raises(DataError, match="its hash is not the manifest's"):
        load_patches(str(tmp_path / "out"), tmp_path / "empty_cache")


# Reads the shards' pixels, and prints their sum or the error.
LOADER = """
import sys
from pathlib import Path
from raysearch.data.shards.patches import load_patches
from raysearch.errors import DataError
try:
    print(int(load_patches(sys.argv[1], Path(sys.argv[2])).pixels.sum()))
except DataError as error:
    print(error)
"""


def load_in_new_process(out: Path, cache: Path) -> str:
    command = [sys.executable, "-c", LOADER, str(out), str(cache)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("kind", ["npy", "parquet", "json"])
def test_a_damaged_pixel_file_is_rejected(idc: Path, tmp_path: Path, kind: str) -> None:
    shard_source(idc, tmp_path, "idc")
    load_patches(str(tmp_path / "out"), tmp_path / "cache")
    (path,) = (tmp_path / "cache" / "pixels").glob(f"*.{kind}")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="damaged; remove it, and start again"):
        load_patches(str(tmp_path / "out"), tmp_path / "cache")


def test_other_pixels_and_labels_in_the_cache_are_rejected(idc: Path, tmp_path: Path) -> None:
    shard_source(idc, tmp_path, "idc")
    patches = load_patches(str(tmp_path / "out"), tmp_path / "cache")
    expected = str(int(patches.pixels.sum()))
    (pixels,) = (tmp_path / "cache" / "pixels").glob("*.npy")
    rows = pixels.with_suffix(".parquet")
    for path in (pixels, rows):
        good = path.read_bytes()
        if path == pixels:
            np.save(path, np.full_like(patches.pixels, 7))
        else:
            table = pq.read_table(path)
            index = table.column_names.index("label")
            swapped = pa.array((1 - patches.labels).tolist(), pa.int16())
            pq.write_table(table.set_column(index, "label", swapped), path)
        output = load_in_new_process(tmp_path / "out", tmp_path / "cache")
        assert output == f"{pixels}: damaged; remove it, and start again"
        with pytest.raises(DataError, match="damaged"):
            load_patches(str(tmp_path / "out"), tmp_path / "cache")
        path.write_bytes(good)
    assert load_in_new_process(tmp_path / "out", tmp_path / "cache") == expected


def test_the_pixels_of_a_wrong_shape_are_not_those_of_the_right_one(
    idc: Path, tmp_path: Path
) -> None:
    """A manifest of another shape has another fingerprint, and with it another cached file."""
    shard_source(idc, tmp_path, "idc")
    expected = np.array(load_patches(str(tmp_path / "out"), tmp_path / "cache").pixels)
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path / "out", copy)
    manifest = replace(read_manifest(Folder(copy)), shape=(100, 25, 3))
    (copy / "manifest.json").write_bytes(manifest.dump())
    turned = load_patches(str(copy), tmp_path / "cache")
    assert turned.shape == (100, 25, 3)
    again = load_patches(str(tmp_path / "out"), tmp_path / "cache")
    assert again.shape == (50, 50, 3)
    assert (again.pixels == expected).all()


def test_a_cache_on_a_full_disk_is_reported_and_left_clean(
    idc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    shard_source(idc, tmp_path, "idc")
    monkeypatch.setattr(os, "posix_fallocate", fail)
    with pytest.raises(DataError, match=r"No space left on device.*RAYSEARCH_CACHE"):
        load_patches(str(tmp_path / "out"), tmp_path / "cache")
    files = (tmp_path / "cache" / "pixels").iterdir()
    assert [path.suffix for path in files] == [".lock"]
