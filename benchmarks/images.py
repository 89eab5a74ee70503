"""Images for the benchmarks: synthetic patches as PNG files in the IDC layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from raysearch.data.synthetic import draw_patches, synthetic_listing


def write_images(folder: Path, patients: int, patches: int, drawn: int = 500) -> list[Path]:
    """Write `patches` PNG files of `patients` patients; only `drawn` of them are different."""
    source = f"{patients}:{patches}:0"
    labels, owners = synthetic_listing(source)
    numbers = np.arange(drawn)
    pictures = draw_patches(source, numbers, labels[:drawn], owners[:drawn])
    paths = []
    for number, (label, owner) in enumerate(zip(labels.tolist(), owners.tolist(), strict=True)):
        place = folder / str(owner) / str(label)
        place.mkdir(parents=True, exist_ok=True)
        path = place / f"{owner}_idx5_x{number + 1}_y1_class{label}.png"
        Image.fromarray(pictures[number % drawn]).save(path)
        paths.append(path)
    return paths
