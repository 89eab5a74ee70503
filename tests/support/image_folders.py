"""Folders of images to predict, with and without labels."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np

from raysearch.data.shards.patches import load_patches
from raysearch.data.shards.sharding import write_shards


def write_image_folders(top: Path) -> Path:
    """Write 60 images of 6 patients in the layout of IDC to `idc`, and without labels to `plain`.

    `idc` also has a file that is no image.
    """
    write_shards("6:60:4", top / "shards", "synthetic", workers=1)
    patches = load_patches(str(top / "shards"), cache=top / "cache")
    for number, (flat, patient, label) in enumerate(
        zip(patches.pixels, patches.patients, patches.labels, strict=True)
    ):
        folder = top / "idc" / patient / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{patient}_idx5_x{1 + 50 * number}_y51_class{label}.png"
        image = np.array(flat).reshape(patches.shape)[:, :, ::-1]
        cv2.imwrite(str(folder / name), image)
    (top / "idc" / "note.txt").write_text("no image")
    slide = top / "plain" / "slide 1"
    slide.mkdir(parents=True)
    for file in sorted((top / "idc").rglob("*.png")):
        shutil.copy(file, slide / f"{file.name.rsplit('_class', 1)[0]}.png")
    return top
