"""HDF5 files that are damaged, or refer to other files, are rejected."""

import hashlib
import os
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest

from raysearch.data.files import Folder
from raysearch.data.images.hdf5 import flatten_images, image_sha1s, read_rows
from raysearch.data.images.shared_memory import Slots
from support.pcam_files import PREFIX, write_pcam
from support.source_images import rejections, shard_columns, shard_source, synthetic_patches


def spoil(path: Path, problem: str) -> None:
    images = synthetic_patches(6)
    if problem == "truncated":
        path.write_bytes(path.read_bytes()[:-5000])
        return
    path.unlink()
    if problem == "pipe":
        os.mkfifo(path)
        return
    with h5py.File(path, "w") as file:
        if problem == "no dataset":
            file.create_dataset("z", data=images)
        elif problem == "link":
            file["x"] = h5py.ExternalLink("/etc/passwd", "x")
        elif problem == "external":
            file.create_dataset("x", (6, 96, 96, 3), np.uint8, external="/etc/passwd")
        elif problem == "floats":
            file.create_dataset("x", data=images.astype(np.float32))
        elif problem == "bomb":
            chunks, shape = (1000, 96, 96, 3), (60_000, 96, 96, 3)
            bomb = file.create_dataset("x", shape, np.uint8, chunks=chunks, compression=9)
            content = zlib.compress(bytes(27_648_000), 9)
            for row in range(0, 60_000, 1000):
                bomb.id.write_direct_chunk((row, 0, 0, 0), content)
        elif problem == "large chunks":
            file.create_dataset(
                "x",
                data=images,
                maxshape=(None, None, None, 3),
                chunks=(1, 900, 900, 3),
                compression=9,
            )
        elif problem == "incomplete":
            file.create_dataset("x", (6, 96, 96, 3), np.uint8, chunks=(1, 96, 96, 3))[:3] = 1


@pytest.mark.parametrize(
    ("problem", "reason"),
    [
        ("truncated", "truncated"),
        ("pipe", "a pipe or a device"),
        ("no dataset", "no dataset x"),
        ("link", "a link to another file"),
        ("external", "in other files"),
        ("floats", "not uint8"),
        ("incomplete", "is incomplete"),
        ("bomb", "more than 200 times the bytes of the file"),
        ("large chunks", "chunks that are larger than its images"),
    ],
)
def test_a_bad_hdf5_file_is_rejected_by_name(tmp_path: Path, problem: str, reason: str) -> None:
    source = tmp_path / "pcam"
    write_pcam(source, "train")
    write_pcam(source, "valid")
    spoil(source / f"{PREFIX}train_x.h5", problem)
    manifest = shard_source(source, tmp_path)
    assert manifest.rows == 6
    ((file, rejection),) = rejections(tmp_path).items()
    assert file == f"{PREFIX}train"
    assert reason in rejection


@pytest.mark.parametrize("chunks", [(6, 96, 96, 3), (4, 96, 96, 3), (5, 12, 24, 1)])
def test_rows_of_large_chunks_are_read_from_a_copy(
    tmp_path: Path, chunks: tuple[int, int, int, int]
) -> None:
    images = synthetic_patches(11)
    folder = Folder(tmp_path)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", data=images, chunks=chunks, compression="gzip")
    path = str(tmp_path / "x.h5")
    assert image_sha1s(path) == [hashlib.sha1(image.tobytes()).hexdigest() for image in images]
    flatten_images(path)
    with Slots(1, images.size) as slots:
        slot = slots.take()
        (tmp_path / "x.h5").write_bytes(b"not read again")
        order = [10, 0, 7, 7, 3]
        chunk = read_rows(folder, [f"x.h5#{row}" for row in order], (96, 96), slot)
        assert chunk.decoded == [0, 1, 2, 3, 4]
        assert (slot.bytes().reshape(images.shape)[:5] == images[order]).all()


def test_the_shards_of_one_large_chunk_have_the_pixels_of_the_file(tmp_path: Path) -> None:
    images = synthetic_patches(24)
    write_pcam(tmp_path / "pcam", "train", images, chunks=images.shape, compression="gzip")
    assert shard_source(tmp_path / "pcam", tmp_path).rows == 24
    columns = shard_columns(tmp_path, "pixels", "source")
    for pixels, source in zip(columns["pixels"], columns["source"], strict=True):
        assert pixels == images[int(source.partition("#")[2])].tobytes()
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "manifest.json",
        "part-00000.parquet",
        "rejected.csv",
    }
