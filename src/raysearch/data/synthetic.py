"""Generates synthetic H&E-like patches of several patients from a seed.

Each patient has its own stain, prevalence of positive patches, and texture. A positive patch has
more, larger and darker nuclei.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from raysearch.errors import DataError

SIDE = 50
SOURCE = re.compile(r"(\d{1,6}):(\d{1,8}):(\d{1,9})")
EOSIN = np.array([0.86, 0.62, 0.76])
HEMATOXYLIN = np.array([0.42, 0.28, 0.58])
# Number of nuclei in a patch by class: the minimum, and the width of the range.
NUM_NUCLEI = ((4, 9), (7, 13))


def parse_synthetic(source: str) -> tuple[int, int, int]:
    """Parse `PATIENTS:PATCHES:SEED` into (patients, patches, seed); DataError for another form."""
    match = SOURCE.fullmatch(source)
    num_patients, num_patches, seed = map(int, match.groups()) if match else (0, 0, 0)
    if not 2 <= num_patients <= num_patches:
        raise DataError(
            f"synthetic source {source!r} is not PATIENTS:PATCHES:SEED with at least 2 patients and"
            " as many patches; give one such as 24:1200:0"
        )
    return num_patients, num_patches, seed


def synthetic_listing(source: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The label and the patient number of each patch of `source`, both with shape (patches,)."""
    num_patients, num_patches, seed = parse_synthetic(source)
    rng = np.random.default_rng([seed, 0])
    patients = np.sort(np.arange(num_patches) % num_patients)
    prevalence = rng.beta(2.5, 4.5, num_patients)
    labels = (rng.random(num_patches) < prevalence[patients]).astype(np.int64)
    first_patches = np.searchsorted(patients, np.arange(num_patients))
    labels[first_patches] = np.arange(num_patients) % 2  # so that each class has many patients
    return labels, patients


def synthesize_patches(
    source: str, numbers: NDArray[np.int64], labels: NDArray[np.int64], patients: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """Generate patches; a patch does not depend on the others that are generated with it.

    Args:
        source: `PATIENTS:PATCHES:SEED`.
        numbers: Number of each patch, shape (B,).
        labels: Class of each patch, shape (B,).
        patients: Patient number of each patch, shape (B,).

    Returns:
        The patches, uint8, shape (B, 50, 50, 3).
    """
    seed = parse_synthetic(source)[2]
    patches = [
        _patch(seed, int(number), int(label), int(patient))
        for number, label, patient in zip(numbers, labels, patients, strict=True)
    ]
    return np.stack(patches)


def _patch(seed: int, number: int, label: int, patient: int) -> NDArray[np.uint8]:
    patient_rng = np.random.default_rng([seed, 1, patient])
    tint = patient_rng.normal(0, 0.05, (2, 3))
    roughness, darkening = patient_rng.uniform(0.02, 0.06), patient_rng.normal(0, 0.12)
    rng = np.random.default_rng([seed, 2, number])
    fibers = _fibers(rng)
    background = (EOSIN + tint[0]) + roughness * 2.5 * (fibers[..., None] - 0.5)
    nuclei = _nuclei(rng, label, darkening)[..., None]
    image = background * (1 - nuclei) + (HEMATOXYLIN + tint[1]) * nuclei
    image += rng.normal(0, roughness, (SIDE, SIDE, 1))
    return np.asarray((image.clip(0, 1) * 255).round(), dtype=np.uint8)


def _fibers(rng: np.random.Generator) -> NDArray[np.float64]:
    """A wavy background texture, shape (50, 50), from 0 to 1."""
    x, y = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
    angle, phases = rng.uniform(0, np.pi), rng.uniform(0, 6.28, 2)
    position = x * np.cos(angle) + y * np.sin(angle)
    wave = position / rng.uniform(3, 6) + np.sin(x / 9 + phases[0])
    return np.asarray(0.5 + 0.5 * np.sin(wave + phases[1]))


def _nuclei(rng: np.random.Generator, label: int, darkening: float) -> NDArray[np.float64]:
    """The opacity of the nuclei at each pixel, shape (50, 50), from 0 to 1."""
    minimum, width = NUM_NUCLEI[label]
    count = int(rng.integers(minimum, minimum + width))
    centers = rng.uniform(0, SIDE, (2, count, 1, 1))
    radii = rng.uniform(2.4, 3.8 + 0.9 * label, (count, 1, 1))
    stretch = rng.uniform(0.75, 1.3, (count, 1, 1))
    y, x = np.mgrid[:SIDE, :SIDE]
    squared_distance = ((x - centers[0]) / stretch) ** 2 + ((y - centers[1]) * stretch) ** 2
    inside = 1 / (1 + np.exp(2.0 * (np.sqrt(squared_distance) - radii)))
    darkness = 0.62 + 0.10 * label + darkening + rng.normal(0, 0.08, (count, 1, 1))
    return np.asarray((inside * darkness).max(axis=0).clip(0, 1))
