"""PatchCamelyon's files as published, and as Kaggle distributes them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from support.source_images import synthetic_patches

PREFIX = "camelyonpatch_level_2_split_"
SLIDES = {
    "train": ["camelyon16_train_normal_007", "camelyon16_train_tumor_071"],
    "valid": ["camelyon16_train_normal_101", "camelyon16_train_tumor_070"],
    "test": ["camelyon16_test_001", "camelyon16_test_108"],
}


def write_pcam(
    folder: Path,
    split: str,
    images: NDArray[np.uint8] | None = None,
    meta: bool = True,
    **options: Any,
) -> NDArray[np.uint8]:
    """Write the files of one split in the official layout, and return the images.

    Args:
        folder: The folder of the files.
        split: train, valid or test.
        images: The images, shape (N, 96, 96, 3); None for six synthetic ones.
        meta: Whether to write the meta file.
        **options: Options of the HDF5 dataset of the images.
    """
    folder.mkdir(exist_ok=True)
    images = synthetic_patches(6, seed=len(split)) if images is None else images
    count = len(images)
    labels = np.arange(count) % 2
    with h5py.File(folder / f"{PREFIX}{split}_x.h5", "w") as file:
        file.create_dataset("x", data=images, **options)
    with h5py.File(folder / f"{PREFIX}{split}_y.h5", "w") as file:
        file.create_dataset("y", data=labels.astype(np.uint8).reshape(-1, 1, 1, 1))
    if meta:
        lines = ["coord_y,coord_x,tumor_patch,center_tumor_patch,wsi"]
        lines += [
            f"{row * 96},{row * 192},True,{bool(labels[row])},{SLIDES[split][row % 2]}"
            for row in range(count)
        ]
        (folder / f"{PREFIX}{split}_meta.csv").write_text("\n".join(lines) + "\n")
    return images


def write_pcam_kaggle(source: Path, images: NDArray[np.uint8]) -> list[str]:
    """Write `images` in the layout of Kaggle's competition, and return their ids."""
    (source / "train").mkdir(parents=True)
    lines = ["id,label"]
    ids = [hashlib.sha1(image.tobytes()).hexdigest() for image in images]
    for number, (image_id, image) in enumerate(zip(ids, images, strict=True)):
        Image.fromarray(image).save(source / "train" / f"{image_id}.tif")
        lines.append(f"{image_id},{number % 2}")
    (source / "train_labels.csv").write_text("\n".join(lines) + "\n")
    return ids
