"""H&E-like patches with patients that differ, drawn from a seed.

Each patient has a stain, a share of positive patches and a texture of its own. A positive patch
has more, larger and darker nuclei.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from raysearch.errors import DataError

SIDE = 50
SOURCE = re.compile(r"(\d{1,6}):(\d{1,8}):(\d{1,9})")
EOSIN = np.array([0.86, 0.62, 0.76])
HAEMATOXYLIN = np.array([0.42, 0.28, 0.58])
# Nuclei a patch: at least, and how many more, by class.
NUCLEI = ((4, 9), (7, 13))


def parse_synthetic(source: str) -> tuple[int, int, int]:
    """(patients, patches, seed) of `PATIENTS:PATCHES:SEED`; DataError where it is not that."""
    match = SOURCE.fullmatch(source)
    patients, patches, seed = map(int, match.groups()) if match else (0, 0, 0)
    if not 2 <= patients <= patches:
        raise DataError(
            f"synthetic source {source!r} is not PATIENTS:PATCHES:SEED with at least 2 patients and"
            " as many patches; give one such as 24:1200:0"
        )
    return patients, patches, seed


def synthetic_listing(source: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The label and the patient of each patch of `source`, both int64 (patches,)."""
    patients, patches, seed = parse_synthetic(source)
    draw = np.random.default_rng([seed, 0])
    owner = np.sort(np.arange(patches) % patients)
    prevalence = draw.beta(2.5, 4.5, patients)
    labels = (draw.random(patches) < prevalence[owner]).astype(np.int64)
    first = np.searchsorted(owner, np.arange(patients))
    labels[first] = np.arange(patients) % 2  # every patient adds to one class at least
    return labels, owner


def draw_patches(
    source: str, numbers: NDArray[np.int64], labels: NDArray[np.int64], patients: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """The patches `numbers` (B,) of `source`, uint8 (B, 50, 50, 3), the same in any batch."""
    seed = parse_synthetic(source)[2]
    drawn = [
        _patch(seed, int(number), int(label), int(patient))
        for number, label, patient in zip(numbers, labels, patients, strict=True)
    ]
    return np.stack(drawn)


def _patch(seed: int, number: int, label: int, patient: int) -> NDArray[np.uint8]:
    person = np.random.default_rng([seed, 1, patient])
    tint = person.normal(0, 0.05, (2, 3))
    roughness, boldness = person.uniform(0.02, 0.06), person.normal(0, 0.12)
    draw = np.random.default_rng([seed, 2, number])
    fibres = _fibres(draw)
    eosin = (EOSIN + tint[0]) + roughness * 2.5 * (fibres[..., None] - 0.5)
    shade = _nuclei(draw, label, boldness)[..., None]
    image = eosin * (1 - shade) + (HAEMATOXYLIN + tint[1]) * shade
    image += draw.normal(0, roughness, (SIDE, SIDE, 1))
    return np.asarray((image.clip(0, 1) * 255).round(), dtype=np.uint8)


def _fibres(draw: np.random.Generator) -> NDArray[np.float64]:
    """A wavy background, (50, 50) from 0 to 1."""
    across, down = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
    angle, phase = draw.uniform(0, np.pi), draw.uniform(0, 6.28, 2)
    along = across * np.cos(angle) + down * np.sin(angle)
    bent = along / draw.uniform(3, 6) + np.sin(across / 9 + phase[0])
    return np.asarray(0.5 + 0.5 * np.sin(bent + phase[1]))


def _nuclei(draw: np.random.Generator, label: int, boldness: float) -> NDArray[np.float64]:
    """How much of each pixel is nucleus, (50, 50) from 0 to 1."""
    least, more = NUCLEI[label]
    count = int(draw.integers(least, least + more))
    centre = draw.uniform(0, SIDE, (2, count, 1, 1))
    radius = draw.uniform(2.4, 3.8 + 0.9 * label, (count, 1, 1))
    stretch = draw.uniform(0.75, 1.3, (count, 1, 1))
    down, across = np.mgrid[:SIDE, :SIDE]
    distance = ((across - centre[0]) / stretch) ** 2 + ((down - centre[1]) * stretch) ** 2
    inside = 1 / (1 + np.exp(2.0 * (np.sqrt(distance) - radius)))
    darkness = 0.62 + 0.10 * label + boldness + draw.normal(0, 0.08, (count, 1, 1))
    return np.asarray((inside * darkness).max(axis=0).clip(0, 1))
