"""A patch among those near it: the formula, what is fitted, and a patch that is alone."""

import math
from collections.abc import Mapping

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from raysearch.metrics import neighbor_smoothing as context
from raysearch.metrics.neighbor_smoothing import (
    REACHES,
    Around,
    Context,
    Places,
    around,
    fit_context,
)

Drawn = tuple[NDArray[np.int64], NDArray[np.float64], Places]


def drawn(seed: int, classes: int = 2, *, together: bool = True) -> Drawn:
    """Slides of a class in the middle and others around it, judged by a net that is often wrong."""
    draw = np.random.default_rng(seed)
    slides, side = 30, 12
    names = np.repeat([f"s{one}" for one in range(slides)], side * side)
    xs = np.tile(np.repeat(np.arange(side), side), slides).astype(float)
    ys = np.tile(np.arange(side), side * slides).astype(float)
    owner = np.repeat(np.arange(slides), side * side)
    middles = draw.uniform(0, side, (slides, 2))[owner]
    far = np.hypot(xs - middles[:, 0], ys - middles[:, 1])
    labels = np.digitize(-far, np.linspace(-6, -3, classes - 1)).astype(np.int64)
    if not together:
        labels = draw.permutation(labels)
    logits = draw.normal(0, 1.5, (len(labels), classes))
    logits[np.arange(len(labels)), labels] += 1.5
    kept = draw.random(len(labels)) < 0.3
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return labels[kept], probabilities[kept], Places(names[kept], xs[kept], ys[kept])


def by_reach(probabilities: NDArray[np.float64], places: Places) -> Mapping[float, Around]:
    return {reach: around(probabilities, places, reach) for reach in REACHES}


def test_the_formula_by_hand() -> None:
    places = Places(
        np.array(["a", "a", "a", "b"]), np.array([0.0, 3, 0, 0]), np.array([0.0, 4, 1, 0])
    )
    second = np.array([0.9, 0.6, 0.2, 0.7])
    probabilities = np.column_stack([1 - second, second])
    found = Context(2.0, 0.5, 3.0, (0.75, 0.25))(probabilities, places)
    far, near = math.exp(-5 / 2), math.exp(-1 / 2)
    said = (far * (0.6 - 0.25) + near * (0.2 - 0.25)) / (far + near + 0.5)
    margin = math.log(0.9 / 0.1) + 3 * 2 * said
    assert found[0, 1] == pytest.approx(1 / (1 + math.exp(-margin)), abs=1e-12)
    assert found.sum(axis=1) == pytest.approx(1, abs=1e-12)
    assert found[3] == pytest.approx(probabilities[3], abs=1e-12)


def test_certain_patches_and_many_on_one_slide(monkeypatch: pytest.MonkeyPatch) -> None:
    _labels, probabilities, places = drawn(0)
    probabilities[0] = (0.0, 1.0)
    whole = Context(2.0, 0.5, 3.0, (0.7, 0.3))(probabilities, places)
    assert np.isfinite(whole).all()
    monkeypatch.setattr(context, "MAX_AT_ONCE", 100)
    assert Context(2.0, 0.5, 3.0, (0.7, 0.3))(probabilities, places) == pytest.approx(
        whole, abs=1e-12
    )


@pytest.mark.parametrize("classes", [2, 4])
def test_labels_that_lie_together_are_told_better(classes: int) -> None:
    labels, probabilities, places = drawn(1, classes)
    found = fit_context(labels, probabilities, by_reach(probabilities, places))
    other, scores, there = drawn(2, classes)
    alone = roc_auc_score(other == classes - 1, scores[:, -1])
    assert roc_auc_score(other == classes - 1, found(scores, there)[:, -1]) > alone + 0.02
    assert Context.read(str(found)) == found


def test_neighbours_that_say_nothing_do_not_count() -> None:
    labels, probabilities, places = drawn(3, together=False)
    found = fit_context(labels, probabilities, by_reach(probabilities, places))
    alone = roc_auc_score(labels, probabilities[:, 1])
    assert roc_auc_score(labels, found(probabilities, places)[:, 1]) == pytest.approx(
        alone, abs=0.01
    )


def test_two_classes_are_fitted_as_by_logistic_regression() -> None:
    labels, probabilities, places = drawn(4)
    near = by_reach(probabilities, places)
    found = fit_context(labels, probabilities, near)
    said = near[found.reach].beyond(np.array(found.fractions), found.doubt)[:, 1]
    own = np.log(probabilities[:, 1] / probabilities[:, 0])
    model = LogisticRegression(C=1e9).fit(np.column_stack([own, said]), labels)
    # Both classes have what is said, of opposite signs.
    assert 2 * found.weight == pytest.approx(model.coef_[0][1] / model.coef_[0][0], rel=0.01)
