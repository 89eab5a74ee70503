"""Measures the time to split as many rows as IDC has: 277,524 patches of 279 patients.

    .venv/bin/python benchmarks/split.py

The value is the number of seconds for a held-out test set and 3, 5 and 10 folds, including the hash
and the class counts.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np

from raysearch.data.shards.rows import Rows
from raysearch.data.splits.split_creation import SplitSpec, create_split_manifest

ROWS, PATIENTS, GOAL_S, RUNS = 277_524, 279, 2.0, 3


def rows() -> Rows:
    """Rows with random numbers of patches and random prevalences of the patients."""
    rng = np.random.default_rng(0)
    patients = np.sort(rng.integers(0, PATIENTS, ROWS))
    prevalence = rng.beta(2, 5, PATIENTS)
    names = np.array([f"{number:05d}" for number in range(PATIENTS)])[patients]
    unknown = np.full(ROWS, np.nan)
    return Rows(
        labels=(rng.random(ROWS) < prevalence[patients]).astype(np.int64),
        patients=names,
        slides=names,
        sites=names,
        official_splits=names,
        magnifications=unknown,
        xs=unknown,
        ys=unknown,
        shape=(50, 50, 3),
        class_names=("negative", "positive"),
        fingerprint="0" * 64,
        warnings=(),
        center=None,
        downsamples=np.ones(ROWS),
        scanners=names,
        tile_settings=None,
    )


def main() -> None:
    all_rows = rows()
    seconds = []
    for _ in range(RUNS):
        start = time.perf_counter()
        split_manifest = create_split_manifest(all_rows, "label", SplitSpec(folds=(3, 5, 10)))
        assert split_manifest.hash
        seconds.append(time.perf_counter() - start)
    value = sorted(seconds)[RUNS // 2]
    line = {
        "benchmark": "split",
        "value": round(value, 3),
        "unit": "s",
        "peer": None,
        "ratio": None,
        "goal": f"<= {GOAL_S}",
        "pass": value <= GOAL_S,
    }
    sys.stdout.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
