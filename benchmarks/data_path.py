"""Measures patches a second from shards to shuffled batches, against ImageFolder and DataLoader.

    .venv/bin/python benchmarks/data_path.py [FOLDER]

FOLDER contains images in the layout of IDC; without it, synthetic images are written. The value is
for uint8 batches; the line before it is for normalized float32 batches, with another goal.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from images import write_images
from raysearch.data.shards.patches import load_patches
from raysearch.data.shards.sharding import write_shards
from raysearch.training.batches import epoch_order, normalized_batch
from raysearch.training.training_data import TrainingData

PATCHES, PATIENTS, ROUNDS, BATCH = 10_000, 50, 3, 64
GOAL, FLOAT_GOAL = 20, 10
FLOAT = [
    v2.PILToTensor(),
    v2.ToDtype(torch.float32, scale=True),
    v2.Normalize([0.5] * 3, [0.5] * 3),
]


def torchvision_speed(folder: Path, transform: Callable[..., object]) -> float:
    """Patches a second in an epoch of ImageFolder through a DataLoader with two workers."""
    loader = DataLoader(
        ImageFolder(str(folder), transform), batch_size=BATCH, shuffle=True, num_workers=2
    )
    start = time.perf_counter()
    count = sum(len(batch) for batch, _labels in loader)
    return count / (time.perf_counter() - start)


class MappedPatches:
    """The memory-mapped pixel file, from which batches are gathered."""

    def __init__(self, shards: Path, cache: Path) -> None:
        self.patches = load_patches(str(shards), cache)
        pixels, labels = map(torch.from_numpy, (self.patches.pixels, self.patches.labels))
        shape, names = self.patches.shape, self.patches.class_names
        self.data = TrainingData(pixels, labels, self.patches.patients, shape, names, ())
        self.rows = np.arange(len(self.patches.labels), dtype=np.int64)
        self.epoch = 0

    def speed(self, floats: bool) -> float:
        """Patches a second in one shuffled epoch, as uint8 or as normalized float32."""
        self.epoch += 1
        start = time.perf_counter()
        order = torch.from_numpy(epoch_order(self.rows, 0, 0, self.epoch))
        for rows in torch.split(order, BATCH):
            batch = self.data.gather(rows)
            if floats:
                normalized_batch(batch, self.patches.shape)
        return len(order) / (time.perf_counter() - start)


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(scratch) / "images"
        if len(sys.argv) == 1:
            write_images(folder, PATIENTS, PATCHES)
        write_shards(str(folder), Path(scratch) / "shards", "idc")
        mapped = MappedPatches(Path(scratch) / "shards", Path(scratch) / "cache")
        rounds: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
        mapped.speed(floats=False)
        for _ in range(ROUNDS):
            for floats in (False, True):
                transform = v2.Compose(FLOAT) if floats else v2.PILToTensor()
                speeds = mapped.speed(floats=floats), torchvision_speed(folder, transform)
                rounds[floats].append(speeds)
    medians = {}
    for floats, pairs in rounds.items():
        value, peer = (statistics.median(column) for column in zip(*pairs, strict=True))
        medians[floats] = (value, peer, statistics.median([a / b for a, b in pairs]))
    print(
        "normalized float32: {:.0f} patches/s, peer {:.0f}, ratio {:.1f}, goal {}".format(
            *medians[True], FLOAT_GOAL
        )
    )
    value, peer, ratio = medians[False]
    print(
        json.dumps(
            {
                "benchmark": "data_path",
                "value": round(value),
                "unit": "patches/s",
                "peer": round(peer),
                "ratio": round(ratio, 1),
                "goal": GOAL,
                "pass": ratio >= GOAL and medians[True][2] >= FLOAT_GOAL,
            }
        )
    )


if __name__ == "__main__":
    main()
