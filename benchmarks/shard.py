"""Measures sharding of PNG files in patches a second, against a plain Pillow loop on one core.

    .venv/bin/python benchmarks/shard.py [FOLDER]

FOLDER contains images in the layout of IDC; without it, synthetic images are written.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from images import write_images

PATCHES, PATIENTS, ROUNDS = 120_000, 100, 3
GOAL = 1.8


def pillow_seconds(paths: list[Path]) -> float:
    """Seconds to decode all files one after another with Pillow."""
    start = time.perf_counter()
    for path in paths:
        with Image.open(path) as image:
            np.asarray(image.convert("RGB"))
    return time.perf_counter() - start


def sharding_seconds(folder: Path, out: Path) -> float:
    """Seconds to shard all files, including the start of the processes."""
    from raysearch.data.shards.sharding import write_shards

    start = time.perf_counter()
    write_shards(str(folder), out, "idc")
    seconds = time.perf_counter() - start
    shutil.rmtree(out)
    return seconds


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(scratch) / "images"
        if len(sys.argv) == 1:
            write_images(folder, PATIENTS, PATCHES)
        paths = sorted(folder.glob("*/*/*.png"))
        pillow_seconds(paths)
        out = Path(scratch) / "out"
        sharding_seconds(folder, out)
        rounds = [(sharding_seconds(folder, out), pillow_seconds(paths)) for _ in range(ROUNDS)]
    value, peer = (len(paths) / statistics.median(times) for times in zip(*rounds, strict=True))
    ratio = statistics.median([pillow / sharding for sharding, pillow in rounds])
    print(
        json.dumps(
            {
                "benchmark": "shard",
                "value": round(value),
                "unit": "patches/s",
                "peer": round(peer),
                "ratio": round(ratio, 2),
                "goal": GOAL,
                "pass": ratio >= GOAL,
            }
        )
    )


if __name__ == "__main__":
    main()
