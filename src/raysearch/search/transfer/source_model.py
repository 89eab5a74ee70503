"""A model of an earlier study, which forecasts how good configurations of a new space are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysearch.metrics.objective import objective_sign
from raysearch.search.transfer.agreement import agreements
from raysearch.search.transfer.configuration_encoder import ConfigurationEncoder, Floats
from raysearch.search.transfer.source_study import SourceStudy, thinned
from raysearch.training.seeds import key

NUM_TREES, NUM_CHECK_TREES = 16, 8
# So many points of each curve are rows of the model.
NUM_CURVE_POINTS = 4
# A configuration may be forecast to be better than the best of the study, by little.
MIN_UTILITY, MAX_UTILITY = -1.0, 1.2
# The model is checked by so many parts of the trials, of which at most so many are taken.
NUM_CHECKS, MAX_CHECKED_TRIALS = 4, 200
# A tree of scikit-learn without its input checks.
Tree = Any


class SourceModel:
    """A forest over the learning curves of an earlier study.

    Args:
        source: The study.
        rows: The features of its trials, shape (trials, features).
        random_rows: The features of random configurations of the new space.
        seed: The seed of the forest.
    """

    def __init__(self, source: SourceStudy, rows: Floats, random_rows: Floats, seed: int) -> None:
        data = _TrainingRows(source, rows)
        self._trees = _fit(data.features, data.objectives, NUM_TREES, seed)
        forecasts = _predict(self._trees, random_rows)
        ends = data.objectives[data.features[:, -1] >= 1]
        self._median = float(np.median(forecasts))
        self._range = float(max(forecasts.max(), ends.max(initial=-np.inf))) - self._median

    def utilities(self, rows: Floats) -> Floats:
        """Return the forecast utilities of configurations, shape (configurations,).

        A configuration has 0 if it is as good as the median of random ones, and 1 if it is as good
        as the best that the study has trained.
        """
        if self._range <= 0:
            return np.zeros(len(rows))
        utilities = (_predict(self._trees, rows) - self._median) / self._range
        return np.clip(utilities, MIN_UTILITY, MAX_UTILITY)


class _TrainingRows:
    """The rows of the model of a study: one for each of some points of the curves.

    Attributes:
        features: The features of the trial and the fraction of its fold-epochs, (rows, features).
        objectives: The objective, larger is better, shape (rows,).
        trials: The number of the trial, shape (rows,).
    """

    def __init__(self, source: SourceStudy, rows: Floats) -> None:
        sign = objective_sign(source.mode)
        points = [
            (number, fraction, sign * objective)
            for number, trial in enumerate(source.trials)
            for fraction, objective in thinned(list(trial.curve), NUM_CURVE_POINTS)
        ]
        numbers, fractions, objectives = zip(*points, strict=True)
        self.trials = np.array(numbers)
        self.features = np.column_stack([rows[self.trials], fractions]).astype(np.float32)
        self.objectives = np.array(objectives)


def model_quality(source: SourceStudy) -> float:
    """Return how well models of a study order trials that they were not fitted to, from -1 to 1.

    It is near 0 if the objective does not depend on the hyperparameters.
    """
    configurations = [trial.hparams for trial in source.trials]
    data = _TrainingRows(source, ConfigurationEncoder(configurations).rows(configurations))
    seed = key("model quality", source.name) % 2**32
    checked = np.random.default_rng(seed).permutation(len(source.trials))[:MAX_CHECKED_TRIALS]
    if len(checked) < NUM_CHECKS:
        return 0.0
    fractions = np.unique(data.features[:, -1]).astype(np.float64)
    objectives = np.full((len(checked), len(fractions)), np.nan)
    forecasts = np.zeros((len(checked), 1))
    for part in range(NUM_CHECKS):
        positions = np.arange(part, len(checked), NUM_CHECKS)
        fitted = np.isin(data.trials, np.delete(checked, positions))
        trees = _fit(data.features[fitted], data.objectives[fitted], NUM_CHECK_TREES, seed)
        for position in positions:
            rows = data.trials == checked[position]
            columns = np.searchsorted(fractions, data.features[rows, -1])
            objectives[position, columns] = data.objectives[rows]
            forecasts[position] = _predict(trees, data.features[rows][:1, :-1])
    return float(agreements(fractions, objectives, forecasts).values[0])


def _fit(
    features: NDArray[np.float32], objectives: Floats, num_trees: int, seed: int
) -> list[Tree]:
    from sklearn.ensemble import ExtraTreesRegressor

    model = ExtraTreesRegressor(num_trees, max_features=None, random_state=seed)
    return [estimator.tree_ for estimator in model.fit(features, objectives).estimators_]


def _predict(trees: Sequence[Tree], rows: Floats) -> Floats:
    """Forecast the objective of configurations at the end of their training."""
    features = np.column_stack([rows, np.ones(len(rows))]).astype(np.float32)
    return np.asarray(np.mean([tree.predict(features)[:, 0] for tree in trees], axis=0))
