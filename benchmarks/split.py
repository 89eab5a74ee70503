"""Splitting as many rows as the whole IDC set has: 277,524 patches of 279 patients.

    uv run python benchmarks/split.py

Value: seconds for a held-out test set and folds for 3, 5 and 10, hash and counts included.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np

from raysearch.data.patches import Rows
from raysearch.data.splits.split_creation import SplitSpec, make_split_manifest

ROWS, PATIENTS, GOAL_S, RUNS = 277_524, 279, 2.0, 3


def rows() -> Rows:
    """Rows with as many patches a patient, and positives, as come by chance."""
    draw = np.random.default_rng(0)
    owner = np.sort(draw.integers(0, PATIENTS, ROWS))
    positive = draw.beta(2, 5, PATIENTS)
    names = np.array([f"{one:05d}" for one in range(PATIENTS)])[owner]
    nothing = np.full(ROWS, np.nan)
    return Rows(
        labels=(draw.random(ROWS) < positive[owner]).astype(np.int64),
        patients=names,
        slides=names,
        sites=names,
        parts=names,
        magnifications=nothing,
        xs=nothing,
        ys=nothing,
        shape=(50, 50, 3),
        class_names=("negative", "positive"),
        fingerprint="0" * 64,
        warnings=(),
    )


def main() -> None:
    known = rows()
    seconds = []
    for _ in range(RUNS):
        began = time.perf_counter()
        split_manifest = make_split_manifest(known, "label", SplitSpec(folds=(3, 5, 10)))
        assert split_manifest.hash
        seconds.append(time.perf_counter() - began)
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
