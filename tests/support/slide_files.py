"""Files with the features of slides, as TRIDENT writes them, and a CSV file of their labels."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from raysearch.data.shards.sharding import write_shards
from raysearch.data.shards.source_names import SourceNames
from raysearch.data.sources.listing import SourceOptions
from raysearch.models.bags.feature_shards import shard_features

WIDTH = 16
# The features of a patch of tumor are shifted by this, in the first feature.
SHIFT = 6.0
PATCH_SIDE = 256


def write_slides(folder: Path, num_slides: int, width: int = WIDTH, seed: int = 0) -> Path:
    """Write slides of two classes, each of another patient; return the CSV file of their labels.

    A slide of class tumor has some shifted patches, the first of its file.
    """
    files = folder / "features"
    files.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    lines = ["slide_id,case_id,label"]
    for number in range(num_slides):
        num_patches = int(rng.integers(20, 60))
        features = rng.normal(size=(num_patches, width)).astype(np.float32)
        if number % 2:
            features[: num_tumor_patches(num_patches), 0] += SHIFT
        write_slide(files / f"s{number:03d}.h5", features, batch_axis=number % 3 == 0)
        lines.append(f"s{number:03d},p{number:03d},{('normal', 'tumor')[number % 2]}")
    table = folder / "labels.csv"
    table.write_text("\n".join(lines) + "\n")
    return table


def num_tumor_patches(num_patches: int) -> int:
    """Return how many of the patches of a slide of class tumor are shifted."""
    return num_patches // 5


def write_slide(path: Path, features: NDArray[np.float32], *, batch_axis: bool = False) -> None:
    """Write the features (n, D) of a slide, and positions on a square grid."""
    side = int(np.ceil(np.sqrt(len(features))))
    numbers = np.arange(len(features))
    with h5py.File(path, "w") as file:
        file["features"] = features[None] if batch_axis else features
        file["coords"] = PATCH_SIDE * np.stack([numbers % side, numbers // side], axis=1)


def slide_shards(folder: Path, num_slides: int, seed: int = 0) -> Path:
    """Write shards of bags of so many slides, and return their folder."""
    table = write_slides(folder / "source", num_slides, seed=seed)
    options = SourceOptions(root=str(table.parent / "features"))
    shard_features(str(table), folder / "shards", options, SourceNames())
    return folder / "shards"


def one_label_shards(folder: Path) -> Path:
    """Write shards of the patches of four slides, of whom each has patches of one class."""
    folder.mkdir()
    rng = np.random.default_rng(2)
    lines = ["path,label,patient,slide,x,y"]
    for number in range(24):
        patch = rng.integers(0, 256, (50, 50, 3)).astype(np.uint8)
        Image.fromarray(patch).save(folder / f"{number}.png")
        slide = number % 4
        lines.append(f"{number}.png,{('normal', 'tumor')[slide % 2]},p{slide},p{slide},{number},0")
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    write_shards(str(folder / "table.csv"), folder / "shards", "csv", workers=1)
    return folder / "shards"
