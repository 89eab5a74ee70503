"""Finds patches that show no tissue, or whose stain differs from that of the other patches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raysearch.data.audit.patch_features import PatchFeatures

# Limits on a scale of 0 to 255.
MAX_GRAY_CHROMA = 3.0
MAX_UNIFORM_STD = 5.0
# A single flat color varies between its channels, but not within a channel.
MAX_UNIFORM_CHANNEL_STD = 2.0
MAX_BLACK_MEAN = 10.0
MIN_BLANK_MEAN = 240.0
UNIFORM_RULE = (
    f"standard deviation below {MAX_UNIFORM_STD:g}, or {MAX_UNIFORM_CHANNEL_STD:g} within channels"
)
# Iglewicz and Hoaglin recommend 3.5 for tens of values; among thousands of patches that limit
# would report normal tissue.
MAX_ROBUST_SCORE = 6.0
# Optical densities that differ by less than this are one color to the eye.
MIN_MAD = 0.005
# The median absolute deviation of a normal distribution in units of its standard deviation.
NORMAL_MAD = 0.6745
ODD_STAIN = "odd stain"


@dataclass(frozen=True)
class Outliers:
    """The rows of one kind of outlier, the most extreme first, and the rule that selects them."""

    kind: str
    rule: str
    rows: NDArray[np.int64]


def find_outliers(features: PatchFeatures) -> tuple[Outliers, ...]:
    """Return every kind of outlier.

    A row may be of several kinds. Only patches that are not black, blank or uniform can have an odd
    stain.
    """
    means, stds = features.mean_intensities, features.intensity_stds
    no_tissue = (means < MAX_BLACK_MEAN) | (means > MIN_BLANK_MEAN) | (stds < MAX_UNIFORM_STD)
    stain_scores = robust_scores(features.optical_densities, ~no_tissue)
    channel_scale = MAX_UNIFORM_STD / MAX_UNIFORM_CHANNEL_STD
    uniformity = np.minimum(stds, features.channel_stds * channel_scale)
    return (
        _below(
            "near-gray",
            f"mean chroma below {MAX_GRAY_CHROMA:g}",
            features.chromas,
            MAX_GRAY_CHROMA,
        ),
        _below("near-uniform", UNIFORM_RULE, uniformity, MAX_UNIFORM_STD),
        _below("black", f"mean below {MAX_BLACK_MEAN:g}", means, MAX_BLACK_MEAN),
        _below("blank", f"mean above {MIN_BLANK_MEAN:g}", -means, -MIN_BLANK_MEAN),
        _below(
            ODD_STAIN,
            f"robust z-score above {MAX_ROBUST_SCORE:g}",
            -stain_scores,
            -MAX_ROBUST_SCORE,
        ),
    )


def _below(kind: str, rule: str, values: NDArray[np.floating], limit: float) -> Outliers:
    rows = np.flatnonzero(values < limit)
    return Outliers(kind, rule, rows[np.argsort(values[rows], kind="stable")].astype(np.int64))


def robust_scores(values: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the largest absolute modified z-score over the columns of each row.

    The score of a column is 0.6745 (x - median) / MAD (Iglewicz and Hoaglin, 1993, "How to Detect
    and Handle Outliers"). Medians are robust to the outliers that the score must detect.

    Args:
        values: Shape (N, C).
        mask: Rows to score, shape (N,). The median and the MAD are computed over these rows.

    Returns:
        Scores, shape (N,); 0 for rows outside `mask`.
    """
    scores = np.zeros(len(values))
    if mask.any():
        masked_values = values[mask].astype(np.float64)
        deviations = np.abs(masked_values - np.median(masked_values, axis=0))
        mad = np.maximum(np.median(deviations, axis=0), MIN_MAD)
        scores[mask] = (NORMAL_MAD * deviations / mad).max(axis=1)
    return scores
