"""Patches that show no tissue, or another stain than the rest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raysearch.data.audit.patch_features import Measures

GREY, UNIFORM, BLACK, BLANK = 3.0, 5.0, 10.0, 240.0
# One flat colour deviates between its channels, and not within them.
FLAT = 2.0
EVEN = f"deviation below {UNIFORM:g}, or {FLAT:g} within channels"
# The usual 3.5 is made for tens of values; among thousands of patches it names good ones.
ODD = 6.0
# Optical densities closer than this are one colour to the eye.
MIN_MAD = 0.005
# What the median absolute deviation of normal values is, in standard deviations.
NORMAL_MAD = 0.6745


@dataclass(frozen=True)
class Outliers:
    """Rows of one kind, the oddest first, and what makes them so."""

    kind: str
    rule: str
    rows: NDArray[np.int64]


def find_outliers(measures: Measures) -> tuple[Outliers, ...]:
    """Every kind of outlier; a row may be of several kinds, but only tissue is oddly stained."""
    plain = (measures.means < BLACK) | (measures.means > BLANK) | (measures.deviations < UNIFORM)
    odd = robust_scores(measures.densities, ~plain)
    even = np.minimum(measures.deviations, measures.textures * (UNIFORM / FLAT))
    return (
        _below("near-grey", f"mean chroma below {GREY:g}", measures.chromas, GREY),
        _below("near-uniform", EVEN, even, UNIFORM),
        _below("black", f"mean below {BLACK:g}", measures.means, BLACK),
        _below("blank", f"mean above {BLANK:g}", -measures.means, -BLANK),
        _below("odd stain", f"robust z-score above {ODD:g}", -odd, -ODD),
    )


def _below(kind: str, rule: str, values: NDArray[np.floating], limit: float) -> Outliers:
    rows = np.flatnonzero(values < limit)
    return Outliers(kind, rule, rows[np.argsort(values[rows], kind="stable")].astype(np.int64))


def robust_scores(values: NDArray[np.float32], known: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The largest |modified z-score| over the columns of `values` (N, C); 0 for rows not `known`.

    0.6745 (x - median) / MAD, by Iglewicz and Hoaglin (1993), "How to Detect and Handle Outliers":
    medians do not move with the outliers that are looked for.
    """
    scores = np.zeros(len(values))
    if known.any():
        some = values[known].astype(np.float64)
        apart = np.abs(some - np.median(some, axis=0))
        mad = np.maximum(np.median(apart, axis=0), MIN_MAD)
        scores[known] = (NORMAL_MAD * apart / mad).max(axis=1)
    return scores
