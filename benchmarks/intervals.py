"""Measures the coverage of the intervals by patient, and the time of their replicates.

    .venv/bin/python benchmarks/intervals.py

Sets of 279 patients are simulated. Scores have a random effect of the patient, and each patient has
its own fraction of positives, so that the AUROC of the population is known. Peer: the interval that
resamples patches instead of patients, which most publications report. The benchmark also measures
the seconds of 2,000 replicates for IDC's 279 patients and 277,524 patches, after the pairs are
counted.
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
    auroc_replicates,
    count_concordant_pairs,
    patient_weights,
    percentile_interval,
)

NUM_PATIENTS, PATCHES_PER_PATIENT, NUM_IDC_PATCHES = 279, 25, 277_524
NUM_REPLICATES, MIN_COVERAGE, MAX_COVERAGE, MAX_SECONDS = 2000, 0.93, 0.97, 0.2
# The effect of the label on a score, and the standard deviations of patients and of patches.
LABEL_EFFECT, PATIENT_STD, PATCH_STD = 2.0, 0.7, 1.0
SimulatedSet = tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]


def simulate_set(seed: int, patches_per_patient: int) -> SimulatedSet:
    """Return labels, scores and patients of a set with random numbers of patches."""
    generator = np.random.default_rng(seed)
    mean_sizes = patches_per_patient * generator.lognormal(-0.125, 0.5, NUM_PATIENTS)
    sizes = 1 + generator.poisson(mean_sizes)
    patients = np.repeat(np.arange(NUM_PATIENTS), sizes)
    positive_fraction = generator.beta(1, 2.5, NUM_PATIENTS)
    labels = (generator.random(len(patients)) < positive_fraction[patients]).astype(np.int64)
    patient_effect = generator.normal(0, PATIENT_STD, NUM_PATIENTS)[patients]
    noise = generator.normal(0, PATCH_STD, len(patients))
    return labels, LABEL_EFFECT * labels + patient_effect + noise, patients


def replicate_seconds() -> float:
    """Return the seconds of the replicates of a set as large as IDC, after its pairs."""
    labels, scores, patients = simulate_set(0, NUM_IDC_PATCHES // NUM_PATIENTS)
    pairs = count_concordant_pairs(labels, scores, patients)
    start = time.perf_counter()
    replicates = auroc_replicates(pairs, patient_weights(NUM_PATIENTS, NUM_REPLICATES, 0))
    percentile_interval(0.5, replicates)
    return time.perf_counter() - start


def main() -> None:
    """Simulate the sets, and print the coverages."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sets", type=int, default=1000)
    num_sets = parser.parse_args().sets
    truth = float(norm.cdf(LABEL_EFFECT / np.sqrt(2 * (PATIENT_STD**2 + PATCH_STD**2))))
    num_covered = {"patients": 0, "patches": 0}
    for seed in range(num_sets):
        labels, scores, patients = simulate_set(seed, PATCHES_PER_PATIENT)
        for unit, groups in (("patients", patients), ("patches", np.arange(len(patients)))):
            names = groups.astype(np.str_)
            interval = auroc_interval(labels, scores, names, num_replicates=400, seed=seed)
            assert interval.low is not None
            assert interval.high is not None
            num_covered[unit] += interval.low <= truth <= interval.high
    coverage = {unit: count / num_sets for unit, count in num_covered.items()}
    seconds = replicate_seconds()
    print(f"truth {truth:.4f}; {num_sets} sets; coverage by patient {coverage['patients']:.3f},")
    print(f"by patch {coverage['patches']:.3f}; {NUM_REPLICATES} replicates in {seconds:.3f} s")
    is_covered = MIN_COVERAGE <= coverage["patients"] <= MAX_COVERAGE
    result = {
        "benchmark": "intervals",
        "value": round(coverage["patients"], 3),
        "unit": "coverage",
        "peer": round(coverage["patches"], 3),
        "ratio": None,
        "replicates_s": round(seconds, 3),
        "goal": f"{MIN_COVERAGE} to {MAX_COVERAGE}, < {MAX_SECONDS} s",
        "pass": is_covered and seconds < MAX_SECONDS,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
