"""Patches a second of sharding PNG files, against a plain Pillow loop on one core.

    uv run python benchmarks/shard.py [FOLDER]

FOLDER holds images in the IDC layout; without one they are drawn.
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


def pillow(paths: list[Path]) -> float:
    """Seconds to decode every file, one after another."""
    began = time.perf_counter()
    for path in paths:
        with Image.open(path) as image:
            np.asarray(image.convert("RGB"))
    return time.perf_counter() - began


def ours(folder: Path, out: Path) -> float:
    """Seconds to shard every file, the start of the processes included."""
    from raysearch.data.shards.sharding import write_shards  # noqa: PLC0415 each process imports this file

    began = time.perf_counter()
    write_shards(str(folder), out, "idc")
    seconds = time.perf_counter() - began
    shutil.rmtree(out)
    return seconds


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(scratch) / "images"
        if len(sys.argv) == 1:
            write_images(folder, PATIENTS, PATCHES)
        paths = sorted(folder.glob("*/*/*.png"))
        pillow(paths)
        out = Path(scratch) / "out"
        ours(folder, out)
        rounds = [(ours(folder, out), pillow(paths)) for _ in range(ROUNDS)]
    value, peer = (len(paths) / statistics.median(times) for times in zip(*rounds, strict=True))
    ratio = statistics.median([other / mine for mine, other in rounds])
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
