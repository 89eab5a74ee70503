"""Seconds to find every exact duplicate, turned ones too, among as many patches as IDC has.

    uv run python benchmarks/duplicates.py

277,524 patches of 50x50 of random pixels, of which some are copies, turned and not; their SHA-256
are in the shards already. Timed: the histogram keys of all, the search, and the eight hashes of
what is left. Peer: eight hashes of every patch, measured on 4,000 of them.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from raysearch.data.audit.duplicates import (
    canonical_hash,
    exact_groups,
    symmetries,
    turned_candidates,
)
from raysearch.data.audit.patch_features import histogram_keys, histograms

PATCHES, SIDE, COPIES, PEER = 277_524, 50, 500, 4000
BLOCK, AHEAD = 512, 16
GOAL_S = 10.0
Images = NDArray[np.uint8]


def blocks() -> Iterator[Images]:
    """All the patches, a block at a time; the last of each of the first blocks is a turned copy."""
    draw = np.random.default_rng(0)
    for number, start in enumerate(range(0, PATCHES, BLOCK)):
        size = min(BLOCK, PATCHES - start)
        pixels = np.frombuffer(draw.bytes(size * SIDE * SIDE * 3), np.uint8).copy()
        block = pixels.reshape(size, SIDE, SIDE, 3)
        if number < COPIES:
            block[-1] = list(symmetries(block[0]))[number % 8]
        yield block


def keys_of(block: Images) -> NDArray[np.uint64]:
    return histogram_keys(histograms(list(block)))


def ours() -> tuple[float, int]:
    """Seconds of the search, without those of drawing the patches, and the groups found."""
    seconds, hashes = 0.0, list[bytes]()
    keys: list[NDArray[np.uint64]] = []
    kept: dict[int, Images] = {}
    ahead, start = blocks(), 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        while some := [block for _, block in zip(range(AHEAD), ahead, strict=False)]:
            for block in some:
                hashes += [hashlib.sha256(one).digest() for one in block]
                kept |= {start: block[0], start + len(block) - 1: block[-1]}
                start += len(block)
            began = time.perf_counter()
            keys += pool.map(keys_of, some)
            seconds += time.perf_counter() - began
    known = np.array(hashes, "S32")
    began = time.perf_counter()
    candidates = turned_candidates(known, np.concatenate(keys))
    groups = exact_groups(known, {row: canonical_hash(kept[row]) for row in candidates.tolist()})
    return seconds + time.perf_counter() - began, len(groups)


def peer() -> float:
    """Seconds that eight hashes of every patch would take on one core."""
    some = np.concatenate([block for _, block in zip(range(8), blocks(), strict=False)])[:PEER]
    began = time.perf_counter()
    for one in some:
        canonical_hash(one)
    return (time.perf_counter() - began) / len(some) * PATCHES


def main() -> None:
    value, found = ours()
    if found != COPIES:
        raise SystemExit(f"{found} groups found, {COPIES} planted")
    other = peer()
    print(
        json.dumps(
            {
                "benchmark": "duplicates",
                "value": round(value, 3),
                "unit": "s",
                "peer": round(other, 3),
                "ratio": round(other / value, 2),
                "goal": f"<= {GOAL_S:g}",
                "pass": value <= GOAL_S,
            }
        )
    )


if __name__ == "__main__":
    main()
