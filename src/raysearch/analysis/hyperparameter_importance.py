"""Hyperparameter importances: the fraction of the objective's variance that each one explains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raysearch.config.hyperparameter_spec import Hparams, Value
from raysearch.config.space import RANGES, Hyperparameter
from raysearch.config.space_geometry import ABSENT, unit_position, value_at
from raysearch.search.journal.history import Trial
from raysearch.search.study.plan import Plan

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from sklearn.ensemble import RandomForestRegressor

    Floats = NDArray[np.float64]

MIN_TRIALS = 4
NUM_TREES, NUM_CONFIGURATIONS, NUM_GRID_STEPS = 100, 64, 12
# Quantiles of the reported fold-epochs at which the variance is computed: early, middle and late.
EPOCH_QUANTILES = (1 / 6, 1 / 2, 5 / 6)
# Below this, the variance of the forest's predictions is numerical noise.
MIN_VARIANCE = 1e-12


@dataclass(frozen=True)
class HyperparameterImportances:
    """The importance of each hyperparameter.

    Attributes:
        fractions: Name and fraction of the variance, the largest first. They add up to less than 1;
            the remainder is due to interactions.
        num_trials: Trials with reports.
        num_reports: Reports that the forest is fitted on.
        reason_undefined: Why there are no importances; empty if there are.
    """

    fractions: tuple[tuple[str, float], ...]
    num_trials: int
    num_reports: int
    reason_undefined: str = ""


def hyperparameter_importances(plan: Plan, trials: Sequence[Trial]) -> HyperparameterImportances:
    """Compute the importances by a functional ANOVA of a random forest.

    The forest predicts the objective from hyperparameters and fold-epoch, so that the reports of
    stopped trials count. The importance of a hyperparameter is the variance of the mean prediction
    as it alone varies over its range, divided by the variance as all vary; both are averaged over
    three fold-epochs and estimated with random configurations. A conditional hyperparameter counts
    in proportion to the configurations in which it exists. Source: Hutter, Hoos and Leyton-Brown,
    "An Efficient Approach for Assessing Hyperparameter Importance", ICML 2014, as in Optuna's
    `FanovaImportanceEvaluator`.

    Args:
        plan: The study's plan.
        trials: Trials with the same number of folds.
    """
    import numpy as np
    from sklearn.ensemble import RandomForestRegressor

    rows = [
        (trial.hparams, report.epoch, report.objective)
        for trial in trials
        for report in trial.reports
        if report.objective is not None
    ]
    objectives = np.array([objective for _hparams, _epoch, objective in rows])
    num_trials = sum(bool(trial.reports) for trial in trials)
    searched = plan.space.searched_hparams()

    def undefined(reason: str) -> HyperparameterImportances:
        return HyperparameterImportances((), num_trials, len(rows), reason)

    if not searched:
        return undefined("the space has no hyperparameter to search")
    if num_trials < MIN_TRIALS:
        return undefined(f"{MIN_TRIALS} trials with reports are needed, there are {num_trials}")
    if not len(objectives) or np.ptp(objectives) == 0:
        return undefined("every report has the same value")
    epochs = np.array([float(epoch) for _hparams, epoch, _objective in rows])
    features = np.array([_features(searched, hparams) for hparams, _epoch, _objective in rows])
    forest = RandomForestRegressor(NUM_TREES, min_samples_leaf=2, max_features=0.5, random_state=0)
    forest.fit(np.column_stack([features, epochs]), objectives)
    levels = np.unique(np.quantile(epochs, EPOCH_QUANTILES, method="nearest"))
    analysis = _VarianceAnalysis(plan, forest, levels, trials[0].folds)
    fractions = analysis.fractions()
    if not fractions:
        return undefined("the forest predicts the same value for all configurations")
    ranked = sorted(fractions.items(), key=lambda item: -item[1])
    return HyperparameterImportances(tuple(ranked), num_trials, len(rows))


class _VarianceAnalysis:
    """The variance of a forest's predictions over random configurations of a space."""

    def __init__(
        self, plan: Plan, forest: RandomForestRegressor, levels: Floats, folds: int
    ) -> None:
        """Draw the configurations; `levels` are the fold-epochs at which predictions are made."""
        import numpy as np

        self._space, self._searched = plan.space, plan.space.searched_hparams()
        self._forest, self._levels = forest, levels
        generator = np.random.default_rng(0)
        self._configurations: list[dict[str, Value]] = [
            {
                hparam.name: value_at(hparam, generator.random(), cells=False)
                for hparam in self._space.hparams
            }
            | {"folds": folds}
            for _ in range(NUM_CONFIGURATIONS)
        ]

    def fractions(self) -> dict[str, float]:
        """Return the fraction of the variance by hyperparameter; empty if there is no variance."""
        total_variance = float(self._predict(self._configurations).var(axis=1).mean())
        if total_variance < MIN_VARIANCE:
            return {}
        return {
            hparam.name: min(self._marginal_variance(hparam) / total_variance, 1.0)
            for hparam in self._searched
        }

    def _marginal_variance(self, hparam: Hyperparameter) -> float:
        """Return the variance of the mean prediction as `hparam` alone varies."""
        configurations = [
            configuration
            for configuration in self._configurations
            if hparam.name in self._active(configuration)
        ]
        if not configurations:
            return 0.0
        grid = [
            {**configuration, hparam.name: value}
            for value in _grid(hparam)
            for configuration in configurations
        ]
        predictions = self._predict(grid).reshape(len(self._levels), -1, len(configurations))
        variance = float(predictions.mean(axis=2).var(axis=1).mean())
        return variance * len(configurations) / len(self._configurations)

    def _predict(self, configurations: Sequence[Hparams]) -> Floats:
        """Return the predictions, shape (levels, configurations)."""
        import numpy as np

        features = np.array(
            [_features(self._searched, self._active(hparams)) for hparams in configurations]
        )
        rows = np.concatenate(
            [np.column_stack([features, np.full(len(features), level)]) for level in self._levels]
        )
        return np.asarray(self._forest.predict(rows)).reshape(len(self._levels), -1)

    def _active(self, configuration: Hparams) -> dict[str, Value]:
        """Return the hyperparameters of `configuration` that exist beside the others."""
        return self._space.active_values(lambda hparam: configuration[hparam.name])


def _grid(hparam: Hyperparameter) -> list[Value]:
    if hparam.kind not in RANGES:
        return list(hparam.values)
    steps = range(NUM_GRID_STEPS)
    return [value_at(hparam, (step + 0.5) / NUM_GRID_STEPS, cells=False) for step in steps]


def _features(searched: Sequence[Hyperparameter], hparams: Hparams) -> list[float]:
    """Return the features of the forest: one per range, one per value of a choice."""
    features = []
    for hparam in searched:
        value = hparams.get(hparam.name)
        if hparam.kind in RANGES:
            position = ABSENT if value is None else unit_position(hparam, value, cells=False)
            features.append(position)
        else:
            features += [float(value == choice) for choice in hparam.values]
    return features
