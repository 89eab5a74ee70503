"""Writes synthetic patches as PNG files in the layout of IDC, for the benchmarks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from raysearch.data.synthetic import synthesize_patches, synthetic_listing


def write_images(
    folder: Path, num_patients: int, num_patches: int, num_distinct: int = 500
) -> list[Path]:
    """Write `num_patches` PNG files of `num_patients` patients.

    Only `num_distinct` of the images are generated; the others are copies of them.
    """
    source = f"{num_patients}:{num_patches}:0"
    labels, patients = synthetic_listing(source)
    numbers = np.arange(num_distinct)
    images = synthesize_patches(source, numbers, labels[:num_distinct], patients[:num_distinct])
    paths = []
    for number, (label, patient) in enumerate(zip(labels.tolist(), patients.tolist(), strict=True)):
        directory = folder / str(patient) / str(label)
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{patient}_idx5_x{number + 1}_y1_class{label}.png"
        Image.fromarray(images[number % num_distinct]).save(path)
        paths.append(path)
    return paths
