"""HDF5 files that are damaged, or refer to other files, are rejected."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from support.pcam_files import PREFIX, write_pcam
from support.source_images import rejections, shard_source, synthetic_patches


def spoil(path: Path, problem: str) -> None:
    images = synthetic_patches(6)
    if problem == "truncated":
        path.write_bytes(path.read_bytes()[:-5000])
        return
    path.unlink()
    with h5py.File(path, "w") as file:
        if problem == "no dataset":
            file.create_dataset("z", data=images)
        elif problem == "link":
            file["x"] = h5py.ExternalLink("/etc/passwd", "x")
        elif problem == "external":
            file.create_dataset("x", (6, 96, 96, 3), np.uint8, external="/etc/passwd")
        elif problem == "floats":
            file.create_dataset("x", data=images.astype(np.float32))
        elif problem == "incomplete":
            file.create_dataset("x", (6, 96, 96, 3), np.uint8, chunks=(1, 96, 96, 3))[:3] = 1


@pytest.mark.parametrize(
    ("problem", "reason"),
    [
        ("truncated", "truncated"),
        ("no dataset", "no dataset x"),
        ("link", "a link to another file"),
        ("external", "in other files"),
        ("floats", "not uint8"),
        ("incomplete", "is incomplete"),
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
