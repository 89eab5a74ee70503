"""Neighbor smoothing: its formula, its fit, and patches without neighbors."""

import math
from collections.abc import Mapping

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from raysearch.metrics import neighbor_smoothing
from raysearch.metrics.neighbor_smoothing import (
    LENGTH_SCALES,
    NeighborSmoothing,
    NeighborSums,
    PatchPositions,
    fit_neighbor_smoothing,
    neighbor_sums,
)

ScoredSlides = tuple[NDArray[np.int64], NDArray[np.float64], PatchPositions]


def scored_slides(seed: int, num_classes: int = 2, *, clustered: bool = True) -> ScoredSlides:
    """Draw slides with a tumor in the middle, scored by a network that is often wrong."""
    generator = np.random.default_rng(seed)
    num_slides, side = 30, 12
    names = np.repeat([f"s{number}" for number in range(num_slides)], side * side)
    xs = np.tile(np.repeat(np.arange(side), side), num_slides).astype(float)
    ys = np.tile(np.arange(side), side * num_slides).astype(float)
    slide_index = np.repeat(np.arange(num_slides), side * side)
    centers = generator.uniform(0, side, (num_slides, 2))[slide_index]
    distances = np.hypot(xs - centers[:, 0], ys - centers[:, 1])
    labels = np.digitize(-distances, np.linspace(-6, -3, num_classes - 1)).astype(np.int64)
    if not clustered:
        labels = generator.permutation(labels)
    logits = generator.normal(0, 1.5, (len(labels), num_classes))
    logits[np.arange(len(labels)), labels] += 1.5
    sampled = generator.random(len(labels)) < 0.3
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    positions = PatchPositions(names[sampled], xs[sampled], ys[sampled])
    return labels[sampled], probabilities[sampled], positions


def sums_by_length_scale(
    probabilities: NDArray[np.float64], positions: PatchPositions
) -> Mapping[float, NeighborSums]:
    """Return the neighbor sums for each length scale."""
    return {scale: neighbor_sums(probabilities, positions, scale) for scale in LENGTH_SCALES}


def test_the_formula_by_hand() -> None:
    positions = PatchPositions(
        np.array(["a", "a", "a", "b"]), np.array([0.0, 3, 0, 0]), np.array([0.0, 4, 1, 0])
    )
    positive = np.array([0.9, 0.6, 0.2, 0.7])
    probabilities = np.column_stack([1 - positive, positive])
    smoothed = NeighborSmoothing(2.0, 0.5, 3.0, (0.75, 0.25))(probabilities, positions)
    far, near = math.exp(-5 / 2), math.exp(-1 / 2)
    evidence = (far * (0.6 - 0.25) + near * (0.2 - 0.25)) / (far + near + 0.5)
    logit = math.log(0.9 / 0.1) + 3 * 2 * evidence
    assert smoothed[0, 1] == pytest.approx(1 / (1 + math.exp(-logit)), abs=1e-12)
    assert smoothed.sum(axis=1) == pytest.approx(1, abs=1e-12)
    assert smoothed[3] == pytest.approx(probabilities[3], abs=1e-12)


def test_certain_patches_and_blocks_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    _labels, probabilities, positions = scored_slides(0)
    probabilities[0] = (0.0, 1.0)
    smoothing = NeighborSmoothing(2.0, 0.5, 3.0, (0.7, 0.3))
    at_once = smoothing(probabilities, positions)
    assert np.isfinite(at_once).all()
    monkeypatch.setattr(neighbor_smoothing, "MAX_DISTANCES", 100)
    assert smoothing(probabilities, positions) == pytest.approx(at_once, abs=1e-12)


@pytest.mark.parametrize("num_classes", [2, 4])
def test_smoothing_improves_clustered_labels_of_other_slides(num_classes: int) -> None:
    labels, probabilities, positions = scored_slides(1, num_classes)
    smoothing = fit_neighbor_smoothing(
        labels, probabilities, sums_by_length_scale(probabilities, positions)
    )
    other_labels, other_probabilities, other_positions = scored_slides(2, num_classes)
    is_last_class = other_labels == num_classes - 1
    auroc = roc_auc_score(is_last_class, other_probabilities[:, -1])
    smoothed = smoothing(other_probabilities, other_positions)
    assert roc_auc_score(is_last_class, smoothed[:, -1]) > auroc + 0.02
    assert NeighborSmoothing.from_json(str(smoothing)) == smoothing


def test_neighbors_without_information_have_no_effect() -> None:
    labels, probabilities, positions = scored_slides(3, clustered=False)
    smoothing = fit_neighbor_smoothing(
        labels, probabilities, sums_by_length_scale(probabilities, positions)
    )
    auroc = roc_auc_score(labels, probabilities[:, 1])
    smoothed = smoothing(probabilities, positions)
    assert roc_auc_score(labels, smoothed[:, 1]) == pytest.approx(auroc, abs=0.01)


def test_the_fit_for_two_classes_equals_logistic_regression() -> None:
    labels, probabilities, positions = scored_slides(4)
    sums = sums_by_length_scale(probabilities, positions)
    smoothing = fit_neighbor_smoothing(labels, probabilities, sums)
    evidence = sums[smoothing.length_scale].evidence(
        np.array(smoothing.priors), smoothing.shrinkage
    )[:, 1]
    logits = np.log(probabilities[:, 1] / probabilities[:, 0])
    model = LogisticRegression(C=1e9).fit(np.column_stack([logits, evidence]), labels)
    # The evidence of the two classes has opposite signs, so it counts twice.
    ratio = model.coef_[0][1] / model.coef_[0][0]
    assert 2 * smoothing.weight == pytest.approx(ratio, rel=0.01)
