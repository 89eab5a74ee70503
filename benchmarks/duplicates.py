"""Seconds to find all exact duplicates, rotated ones included, in a set of the size of IDC.

    .venv/bin/python benchmarks/duplicates.py

The set has 277,524 patches of 50x50 random pixels, some of which are copies, rotated and not. Their
SHA-256 are in the shards already and are not part of the measured time. Measured: the histogram
hashes of all patches, the search, and the canonical hashes of the candidates. Peer: the canonical
hashes of all patches, extrapolated from 4,000 of them.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from raysearch.data.audit.duplicates import (
    canonical_hash,
    dihedral_transforms,
    exact_duplicates,
    transform_candidates,
)
from raysearch.data.audit.patch_features import channel_histograms, hash_histograms

NUM_PATCHES, SIDE, NUM_COPIES, NUM_PEER_PATCHES = 277_524, 50, 500, 4000
BLOCK_SIZE, BLOCKS_PER_BATCH = 512, 16
MAX_SECONDS = 10.0
Images = NDArray[np.uint8]


def random_blocks() -> Iterator[Images]:
    """Generate all patches in blocks.

    The last patch of each of the first `NUM_COPIES` blocks is a transformed copy of its first.
    """
    rng = np.random.default_rng(0)
    for number, start in enumerate(range(0, NUM_PATCHES, BLOCK_SIZE)):
        size = min(BLOCK_SIZE, NUM_PATCHES - start)
        pixels = np.frombuffer(rng.bytes(size * SIDE * SIDE * 3), np.uint8).copy()
        block = pixels.reshape(size, SIDE, SIDE, 3)
        if number < NUM_COPIES:
            block[-1] = list(dihedral_transforms(block[0]))[number % 8]
        yield block


def block_hashes(block: Images) -> NDArray[np.uint64]:
    """Return the histogram hashes of a block."""
    return hash_histograms(channel_histograms(list(block)))


def measure_search() -> tuple[float, int]:
    """Return the seconds of the search, without generating patches, and the number of groups."""
    seconds, pixel_hashes = 0.0, list[bytes]()
    histogram_hashes: list[NDArray[np.uint64]] = []
    copied_patches: dict[int, Images] = {}
    blocks, num_patches = random_blocks(), 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        while batch := list(islice(blocks, BLOCKS_PER_BATCH)):
            for block in batch:
                pixel_hashes += [hashlib.sha256(patch).digest() for patch in block]
                last = num_patches + len(block) - 1
                copied_patches |= {num_patches: block[0], last: block[-1]}
                num_patches += len(block)
            start_s = time.perf_counter()
            histogram_hashes += pool.map(block_hashes, batch)
            seconds += time.perf_counter() - start_s
    pixel_hash_array = np.array(pixel_hashes, "S32")
    start_s = time.perf_counter()
    candidates = transform_candidates(pixel_hash_array, np.concatenate(histogram_hashes))
    canonical_hashes = {row: canonical_hash(copied_patches[row]) for row in candidates.tolist()}
    groups = exact_duplicates(pixel_hash_array, canonical_hashes)
    return seconds + time.perf_counter() - start_s, len(groups)


def measure_peer() -> float:
    """Return the seconds of the canonical hashes of all patches on one core, extrapolated."""
    patches = np.concatenate(list(islice(random_blocks(), 8)))[:NUM_PEER_PATCHES]
    start_s = time.perf_counter()
    for patch in patches:
        canonical_hash(patch)
    return (time.perf_counter() - start_s) / len(patches) * NUM_PATCHES


def main() -> None:
    seconds, num_groups = measure_search()
    if num_groups != NUM_COPIES:
        raise SystemExit(f"{num_groups} groups found, {NUM_COPIES} expected")
    peer_seconds = measure_peer()
    print(
        json.dumps(
            {
                "benchmark": "duplicates",
                "value": round(seconds, 3),
                "unit": "s",
                "peer": round(peer_seconds, 3),
                "ratio": round(peer_seconds / seconds, 2),
                "goal": f"<= {MAX_SECONDS:g}",
                "pass": seconds <= MAX_SECONDS,
            }
        )
    )


if __name__ == "__main__":
    main()
