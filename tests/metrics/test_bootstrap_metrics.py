"""Metrics of bootstrap replicates, compared with the metrics of resampled rows."""

import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raysearch.metrics import bootstrap_metrics, bootstrap_ranking
from raysearch.metrics.bootstrap import patient_weights
from raysearch.metrics.bootstrap_metrics import RANKING_METRICS, metric_replicates
from raysearch.metrics.classification import METRICS, classification_metrics


@pytest.mark.parametrize("max_few_positives", [0.0, 1.0])
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.integers(0, 10**6), st.integers(12, 60), st.integers(2, 6), st.integers(2, 4))
def test_a_replicate_is_the_metric_of_repeated_patients(
    monkeypatch: pytest.MonkeyPatch,
    max_few_positives: float,
    seed: int,
    size: int,
    num_patients: int,
    num_classes: int,
) -> None:
    """By the weighted rows and pairs of patients, and by the counts of the ranked rows."""
    monkeypatch.setattr(bootstrap_metrics, "MAX_FEW_POSITIVES", max_few_positives)
    monkeypatch.setattr(bootstrap_metrics, "MAX_PAIRS_PER_ROW", 0)
    generator = np.random.default_rng(seed)
    patient_index = np.concatenate(
        [np.arange(num_patients), generator.integers(0, num_patients, size - num_patients)]
    )
    labels = generator.integers(0, num_classes, size)
    values = np.round(generator.random((size, num_classes)), 1) + 0.05
    probabilities = values / values.sum(axis=1, keepdims=True)
    weights = patient_weights(num_patients, 5, seed)
    names = [f"c{number}" for number in range(num_classes)]
    replicates = {
        metric: metric_replicates(metric, labels, probabilities, patient_index, weights)
        for metric in METRICS
    }
    for number, weight in enumerate(weights):
        rows = np.repeat(np.arange(size), weight[patient_index].astype(int))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            resampled = classification_metrics(labels[rows], probabilities[rows], names)
        for metric in METRICS:
            value = resampled[metric]
            expected = np.nan if value is None else value
            assert replicates[metric][number] == pytest.approx(expected, nan_ok=True, abs=1e-12), (
                metric
            )


def test_many_patients_give_the_same_values_by_weighted_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generator = np.random.default_rng(1)
    patient_index = generator.permutation(np.arange(90) % 12)
    labels, scores = generator.integers(0, 2, 90), np.round(generator.random(90), 1)
    probabilities = np.column_stack([1 - scores, scores])
    arguments = (labels, probabilities, patient_index, patient_weights(12, 9, 0))
    by_pairs = metric_replicates("auroc", *arguments)
    monkeypatch.setattr(bootstrap_metrics, "MAX_PATIENTS_FOR_PAIRS", 3)
    assert metric_replicates("auroc", *arguments) == pytest.approx(by_pairs, abs=1e-12)


@pytest.mark.parametrize("batch_cells", [1, 8_000_000])
def test_rare_classes_have_the_same_values_by_ranked_rows_in_any_batches(
    monkeypatch: pytest.MonkeyPatch, batch_cells: int
) -> None:
    generator = np.random.default_rng(2)
    labels = generator.integers(0, 40, 2000)
    values = np.round(generator.random((2000, 40)), 2) + 0.01
    probabilities = values / values.sum(axis=1, keepdims=True)
    arguments = (labels, probabilities, np.arange(2000) % 300, patient_weights(300, 20, 0))
    monkeypatch.setattr(bootstrap_ranking, "BATCH_CELLS", batch_cells)
    ranked = [metric_replicates(metric, *arguments) for metric in RANKING_METRICS]
    monkeypatch.setattr(bootstrap_metrics, "MAX_FEW_POSITIVES", 0)
    weighted = [metric_replicates(metric, *arguments) for metric in RANKING_METRICS]
    assert np.isfinite(weighted).all()
    assert np.allclose(ranked, weighted, rtol=0, atol=1e-12)
