"""Patches a second from shards to shuffled batches, against ImageFolder and DataLoader.

    uv run python benchmarks/data_path.py [FOLDER]

FOLDER holds images in the IDC layout; without one they are drawn. The line's value is uint8
batches; the same as normalised float32 batches is printed before it, with a goal of its own.
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
from raysearch.data.patches import load_patches
from raysearch.data.shards.sharding import write_shards
from raysearch.training.batches import batch_of
from raysearch.training.row_order import epoch_order
from raysearch.training.training_data import TrainingData

PATCHES, PATIENTS, ROUNDS, BATCH = 10_000, 50, 3, 64
GOAL, FLOAT_GOAL = 20, 10
FLOAT = [
    v2.PILToTensor(),
    v2.ToDtype(torch.float32, scale=True),
    v2.Normalize([0.5] * 3, [0.5] * 3),
]


def peer(folder: Path, transform: Callable[..., object]) -> float:
    """Patches a second of an epoch of ImageFolder through a DataLoader of two workers."""
    loader = DataLoader(
        ImageFolder(str(folder), transform), batch_size=BATCH, shuffle=True, num_workers=2
    )
    began = time.perf_counter()
    count = sum(len(batch) for batch, _labels in loader)
    return count / (time.perf_counter() - began)


class Ours:
    """The mapped pixel file, gathered batch by batch."""

    def __init__(self, shards: Path, cache: Path) -> None:
        self.patches = load_patches(str(shards), cache)
        pixels, labels = map(torch.from_numpy, (self.patches.pixels, self.patches.labels))
        shape, names = self.patches.shape, self.patches.class_names
        self.data = TrainingData(pixels, labels, self.patches.patients, shape, names, ())
        self.rows = np.arange(len(self.patches.labels), dtype=np.int64)
        self.epoch = 0

    def run(self, floats: bool) -> float:
        """Patches a second of one shuffled epoch."""
        self.epoch += 1
        began = time.perf_counter()
        order = torch.from_numpy(epoch_order(self.rows, 0, 0, self.epoch))
        for rows in torch.split(order, BATCH):
            batch = self.data.gather(rows)
            if floats:
                batch_of(batch, self.patches.shape)
        return len(order) / (time.perf_counter() - began)


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(scratch) / "images"
        if len(sys.argv) == 1:
            write_images(folder, PATIENTS, PATCHES)
        write_shards(str(folder), Path(scratch) / "shards", "idc")
        mine = Ours(Path(scratch) / "shards", Path(scratch) / "cache")
        rounds: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
        mine.run(floats=False)
        for _ in range(ROUNDS):
            for floats in (False, True):
                transform = v2.Compose(FLOAT) if floats else v2.PILToTensor()
                rounds[floats].append((mine.run(floats=floats), peer(folder, transform)))
    found = {}
    for floats, pairs in rounds.items():
        value, other = (statistics.median(column) for column in zip(*pairs, strict=True))
        found[floats] = (value, other, statistics.median([a / b for a, b in pairs]))
    print(
        "normalised float32: {:.0f} patches/s, peer {:.0f}, ratio {:.1f}, goal {}".format(
            *found[True], FLOAT_GOAL
        )
    )
    value, other, ratio = found[False]
    print(
        json.dumps(
            {
                "benchmark": "data_path",
                "value": round(value),
                "unit": "patches/s",
                "peer": round(other),
                "ratio": round(ratio, 1),
                "goal": GOAL,
                "pass": ratio >= GOAL and found[True][2] >= FLOAT_GOAL,
            }
        )
    )


if __name__ == "__main__":
    main()
