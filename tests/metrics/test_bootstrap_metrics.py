import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysearch.metrics import bootstrap_metrics as reweighted
from raysearch.metrics.bootstrap import patient_weights
from raysearch.metrics.bootstrap_metrics import metric_replicates
from raysearch.metrics.classification import METRICS, score


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(12, 60), st.integers(2, 6), st.integers(2, 4))
def test_a_replicate_is_the_metric_of_whole_patients_repeated(
    seed: int, size: int, patients: int, classes: int
) -> None:
    random = np.random.default_rng(seed)
    owner = np.concatenate([np.arange(patients), random.integers(0, patients, size - patients)])
    labels = random.integers(0, classes, size)
    values = np.round(random.random((size, classes)), 1) + 0.05
    probabilities = values / values.sum(axis=1, keepdims=True)
    weights = patient_weights(patients, 5, seed)
    names = [f"c{one}" for one in range(classes)]
    found = {
        metric: metric_replicates(metric, labels, probabilities, owner, weights)
        for metric in METRICS
    }
    for number, weight in enumerate(weights):
        rows = np.repeat(np.arange(size), weight[owner].astype(int))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            plain = score(labels[rows], probabilities[rows], names)
        for metric in METRICS:
            value = plain[metric]
            expected = np.nan if value is None else value
            assert found[metric][number] == pytest.approx(expected, nan_ok=True, abs=1e-12), metric


def test_many_patients_are_weighted_row_by_row_to_the_same_values(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    random = np.random.default_rng(1)
    owner, labels = random.permutation(np.arange(90) % 12), random.integers(0, 2, 90)
    scores = np.round(random.random(90), 1)
    probabilities = np.column_stack([1 - scores, scores])
    given = (labels, probabilities, owner, patient_weights(12, 9, 0))
    paired = metric_replicates("auroc", *given)
    monkeypatch.setattr(reweighted, "MAX_PAIRED", 3)
    assert metric_replicates("auroc", *given) == pytest.approx(paired, abs=1e-12)
