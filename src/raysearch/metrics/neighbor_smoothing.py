"""Smooths the class probabilities of patches by those of their neighbors on the slide.

A tumor is larger than a patch, so the patches around an uncertain patch are evidence of its class.
Their labels are not needed, so the method applies to slides without labels. Let p[i, c] be the
probability of class c of patch i, and prior[c] the class frequency. The smoothed probability is the
softmax over c of

    log p[i, c] + weight * sum_j w[i, j] (p[j, c] - prior[c]) / (sum_j w[i, j] + shrinkage)

with w[i, j] = exp(-distance(i, j) / length_scale) over the other patches j of the same slide. A
patch that is alone on its slide keeps its probabilities.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from raysearch.metrics.bootstrap import Floats, Ints
from raysearch.metrics.calibration import log_probabilities

Mask = NDArray[np.bool_]

# The grid of the fit. Length scales are in patch sides. The shrinkage is the sum of neighbor
# weights at which the neighbors' evidence counts half.
LENGTH_SCALES = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0)
SHRINKAGES = (0.5, 2.0)
# The lower bound of the factor of the patch's own log probabilities.
MIN_SHARPNESS = 1e-6
# Distances that are in memory at once, 32 MB.
MAX_DISTANCES = 4_000_000


@dataclass(frozen=True)
class PatchPositions:
    """Positions of patches: `slides` (N,), and `xs` and `ys` (N,) in patch sides."""

    slides: NDArray[np.str_]
    xs: Floats
    ys: Floats


@dataclass(frozen=True)
class NeighborSums:
    """Sums over the other patches of each patch's slide.

    Attributes:
        probabilities: Weighted sum of their probabilities, shape (N, C).
        weights: Sum of their weights, shape (N, 1).
    """

    probabilities: Floats
    weights: Floats

    def __getitem__(self, rows: Mask) -> NeighborSums:
        return NeighborSums(self.probabilities[rows], self.weights[rows])

    def evidence(self, priors: Floats, shrinkage: float) -> Floats:
        """Return the neighbors' mean excess over the class priors, shrunk to 0, shape (N, C)."""
        excess = self.probabilities - priors * self.weights
        evidence: Floats = excess / (self.weights + shrinkage)
        return evidence


@dataclass(frozen=True)
class NeighborSmoothing:
    """The fitted parameters of the module's formula; `priors` are the class frequencies (C,)."""

    length_scale: float
    shrinkage: float
    weight: float
    priors: tuple[float, ...]

    @classmethod
    def from_json(cls, text: str) -> NeighborSmoothing:
        """Read the parameters that `str` wrote."""
        fields = json.loads(text)
        return cls(**{**fields, "priors": tuple(fields["priors"])})

    def __str__(self) -> str:
        return json.dumps(asdict(self))

    def __call__(self, probabilities: Floats, positions: PatchPositions) -> Floats:
        """Smooth the `probabilities` (N, C) of the patches at `positions`."""
        sums = neighbor_sums(probabilities, positions, self.length_scale)
        return self.smooth(probabilities, sums)

    def smooth(self, probabilities: Floats, sums: NeighborSums) -> Floats:
        """Smooth `probabilities` (N, C) by sums of this length scale that are already computed."""
        evidence = sums.evidence(np.array(self.priors), self.shrinkage)
        smoothed: Floats = softmax(
            log_probabilities(probabilities) + self.weight * evidence, axis=1
        )
        return smoothed


def neighbor_sums(
    probabilities: Floats, positions: PatchPositions, length_scale: float
) -> NeighborSums:
    """Sum the probabilities of the other patches of each patch's slide, weighted by distance.

    The time is quadratic in the number of patches of a slide.

    Args:
        probabilities: Probability of each class, shape (N, C).
        positions: Positions of the patches.
        length_scale: The distance, in patch sides, at which a weight falls to 1 / e.
    """
    probabilities = np.asarray(probabilities, np.float64)
    sums, total_weights = np.zeros_like(probabilities), np.zeros((len(probabilities), 1))
    for rows, slide_rows in _row_blocks(positions.slides):
        dx = np.subtract.outer(positions.xs[rows], positions.xs[slide_rows])
        dy = np.subtract.outer(positions.ys[rows], positions.ys[slide_rows])
        weights = np.exp(-np.hypot(dx, dy) / length_scale)
        weights[rows[:, None] == slide_rows] = 0.0
        sums[rows] = weights @ probabilities[slide_rows]
        total_weights[rows] = weights.sum(axis=1, keepdims=True)
    return NeighborSums(sums, total_weights)


def _row_blocks(slides: NDArray[np.str_]) -> Iterator[tuple[Ints, Ints]]:
    """Yield a block of a slide's rows, limited by `MAX_DISTANCES`, with all rows of the slide."""
    slide_index = np.unique(slides, return_inverse=True)[1]
    order = np.argsort(slide_index, kind="stable")
    for slide_rows in np.split(order, np.flatnonzero(np.diff(slide_index[order])) + 1):
        block_size = max(1, MAX_DISTANCES // len(slide_rows))
        for start in range(0, len(slide_rows), block_size):
            yield slide_rows[start : start + block_size], slide_rows


def fit_neighbor_smoothing(
    labels: Ints, probabilities: Floats, sums_by_length_scale: Mapping[float, NeighborSums]
) -> NeighborSmoothing:
    """Fit the smoothing that minimizes the log loss.

    Sharpness and offsets of the classes, which correct miscalibrated networks, are fitted together
    with the weight, but are not part of the result: scores of several networks remain comparable.
    The weight is 0 if the neighbors carry no information.

    Args:
        labels: Class of each row, shape (N,).
        probabilities: Probability of each class, shape (N, C), from networks that were not trained
            on these patients.
        sums_by_length_scale: The neighbor sums for each length scale to try.
    """
    priors = np.bincount(labels, minlength=probabilities.shape[1]) / len(labels)
    logs = log_probabilities(probabilities)
    candidates = []
    for (length_scale, sums), shrinkage in itertools.product(
        sums_by_length_scale.items(), SHRINKAGES
    ):
        loss, weight = _fit_weight(labels, logs, sums.evidence(priors, shrinkage))
        smoothing = NeighborSmoothing(length_scale, shrinkage, weight, tuple(priors.tolist()))
        candidates.append((loss, smoothing))
    return min(candidates, key=lambda candidate: candidate[0])[1]


def _fit_weight(labels: Ints, logs: Floats, evidence: Floats) -> tuple[float, float]:
    """Minimize the log loss of softmax(sharpness * (logs + weight * evidence) + offsets).

    Returns:
        The log loss at its minimum, and the weight.
    """
    num_classes = logs.shape[1]
    one_hot = np.eye(num_classes)[labels]

    def loss_and_gradient(parameters: Floats) -> tuple[float, Floats]:
        logits = parameters[0] * logs + parameters[1] * evidence + parameters[2:]
        log_predicted = log_softmax(logits, axis=1)
        errors = (np.exp(log_predicted) - one_hot) / len(labels)
        gradient = [(errors * logs).sum(), (errors * evidence).sum(), *errors.sum(axis=0)]
        return -float((log_predicted * one_hot).sum()) / len(labels), np.array(gradient)

    start = np.zeros(2 + num_classes)
    start[0] = 1.0
    bounds = [(MIN_SHARPNESS, None), (0.0, None), *[(None, None)] * num_classes]
    result = minimize(loss_and_gradient, start, jac=True, method="L-BFGS-B", bounds=bounds)
    return float(result.fun), float(result.x[1] / result.x[0])
