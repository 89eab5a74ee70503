"""How often the intervals by patient hold the truth, and how fast they are drawn.

    uv run python benchmarks/intervals.py

Simulated sets of 279 patients, whose patches are alike (a patient effect on every score, and a
share of positives of its own), so that the AUROC of all patients there could be is known. Peer: the
interval that draws patches instead of patients, which is what most papers print. Also the seconds
of 2,000 draws for IDC's 279 patients and 277,524 patches, once the pairs are counted.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from raysearch.metrics.bootstrap import (
    auroc_interval,
    auroc_pairs,
    patient_weights,
    percentiles,
    replicates,
)

PATIENTS, PATCHES, IDC_PATCHES = 279, 25, 277_524
DRAWS, LEAST, MOST, SECONDS = 2000, 0.93, 0.97, 0.2
# What a label, a patient and a patch add to a score.
STEP, BETWEEN, WITHIN = 2.0, 0.7, 1.0
Set = tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]


def drawn(seed: int, patches: int) -> Set:
    """Labels, scores and patients of a set with about so many patches a patient."""
    draw = np.random.default_rng(seed)
    sizes = 1 + draw.poisson(patches * draw.lognormal(-0.125, 0.5, PATIENTS))
    owner = np.repeat(np.arange(PATIENTS), sizes)
    fraction = draw.beta(1, 2.5, PATIENTS)
    labels = (draw.random(len(owner)) < fraction[owner]).astype(np.int64)
    effect = draw.normal(0, BETWEEN, PATIENTS)[owner]
    return labels, STEP * labels + effect + draw.normal(0, WITHIN, len(owner)), owner


def seconds() -> float:
    """Of the draws for a set as large as IDC, after its pairs were counted."""
    labels, scores, owner = drawn(0, IDC_PATCHES // PATIENTS)
    pairs = auroc_pairs(labels, scores, owner)
    began = time.perf_counter()
    found = replicates(pairs, patient_weights(PATIENTS, DRAWS, 0))
    percentiles(0.5, found)
    return time.perf_counter() - began


def main() -> None:
    """Simulate, and print the shares."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sets", type=int, default=1000)
    asked = parser.parse_args()
    truth = float(norm.cdf(STEP / np.sqrt(2 * (BETWEEN**2 + WITHIN**2))))
    held = {"patients": 0, "patches": 0}
    for seed in range(asked.sets):
        labels, scores, owner = drawn(seed, PATCHES)
        for unit, groups in (("patients", owner), ("patches", np.arange(len(owner)))):
            found = auroc_interval(labels, scores, groups.astype(np.str_), count=400, seed=seed)
            assert found.low is not None
            assert found.high is not None
            held[unit] += found.low <= truth <= found.high
    fractions = {unit: count / asked.sets for unit, count in held.items()}
    took = seconds()
    print(f"truth {truth:.4f}; {asked.sets} sets; held by patient {fractions['patients']:.3f},")
    print(f"by patch {fractions['patches']:.3f}; {DRAWS} draws for IDC's patients in {took:.3f} s")
    passed = LEAST <= fractions["patients"] <= MOST and took < SECONDS
    line = {
        "benchmark": "intervals",
        "value": round(fractions["patients"], 3),
        "unit": "share held",
    }
    line |= {"peer": round(fractions["patches"], 3), "ratio": None, "draws_s": round(took, 3)}
    print(json.dumps(line | {"goal": f"{LEAST} to {MOST}, < {SECONDS} s", "pass": passed}))


if __name__ == "__main__":
    main()
