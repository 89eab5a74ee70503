"""Rows of synthetic patients, as the tests of splits need them."""

from __future__ import annotations

import numpy as np

from raysearch.data.shards.rows import Rows


def make_rows(patients: list[str], labels: list[int], slides: list[str] | None = None) -> Rows:
    """Return rows of two classes; without `slides`, each patient has one slide."""
    unknown = np.full(len(patients), np.nan)
    patient_names = np.array(patients)
    return Rows(
        labels=np.array(labels, np.int64),
        patients=patient_names,
        slides=patient_names if slides is None else np.array(slides),
        sites=np.full(len(patients), ""),
        official_splits=np.full(len(patients), ""),
        magnifications=unknown,
        xs=unknown,
        ys=unknown,
        shape=(4, 4, 3),
        class_names=("no", "yes"),
        fingerprint="f" * 64,
        warnings=(),
        center=None,
        downsamples=np.ones(len(patients)),
        scanners=np.full(len(patients), ""),
        tile_settings=None,
    )


def cohort(num_patients: int, seed: int = 0) -> Rows:
    """Return `num_patients` patients with 5 to 60 patches each, some of them positive."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(5, 60, num_patients)
    patients = [f"p{number:04d}" for number, size in enumerate(sizes) for _ in range(size)]
    prevalence = np.repeat(rng.beta(2, 4, num_patients), sizes)
    return make_rows(patients, (rng.random(len(patients)) < prevalence).astype(int).tolist())
