"""Hyperparameter importances: the fraction of the objective's variance that each one explains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raysearch.config.hyperparameter_spec import Hparams, Value
from raysearch.config.report_interval import trial_epochs
from raysearch.config.space import RANGES, Hyperparameter
from raysearch.config.space_geometry import ABSENT, unit_position, value_at
from raysearch.search.journal.history import Trial
from raysearch.search.study.plan import Plan

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from sklearn.ensemble import RandomForestRegressor

    Floats = NDArray[np.float64]

# With fewer trials, the intervals of most hyperparameters span more than half of the variance.
MIN_TRIALS = 20
NUM_TREES, NUM_CONFIGURATIONS, NUM_GRID_STEPS = 100, 64, 12
# The intervals: forests of fewer trees, each on resampled trials.
NUM_REPLICATES, NUM_REPLICATE_TREES = 60, 10
# Quantiles of the reported fold-epochs at which the variance is computed: early, middle and late.
EPOCH_QUANTILES = (1 / 6, 1 / 2, 5 / 6)
# Below this, the variance of the forest's predictions is numerical noise.
MIN_VARIANCE = 1e-12


@dataclass(frozen=True)
class ImportanceInterval:
    """The 95 % interval of the importance of a hyperparameter."""

    name: str
    low: float
    high: float


@dataclass(frozen=True)
class HyperparameterImportances:
    """The importance of each hyperparameter.

    Attributes:
        fractions: Name and fraction of the variance, the largest first. They add up to less than 1;
            the remainder is due to interactions.
        num_trials: Trials with reports.
        num_reports: Reports that the forest is fitted on.
        reason_undefined: Why there are no importances; empty if there are.
        intervals: Their intervals, in the same order; empty if no replicate has a variance.
    """

    fractions: tuple[tuple[str, float], ...]
    num_trials: int
    num_reports: int
    reason_undefined: str = ""
    intervals: tuple[ImportanceInterval, ...] = ()


def hyperparameter_importances(plan: Plan, trials: Sequence[Trial]) -> HyperparameterImportances:
    """Compute the importances by a functional ANOVA of a random forest.

    The forest predicts the objective from hyperparameters and fold-epoch, so that the reports of
    stopped trials count. The fold-epochs of a trial with fewer epochs are multiplied so that its
    last one equals that of the trials with the most epochs. The importance of a hyperparameter is
    the variance of the mean prediction as it alone varies over its range, divided by the variance
    as all vary; both are averaged over three fold-epochs and estimated with random configurations.
    A conditional hyperparameter counts
    in proportion to the configurations in which it exists. Source: Hutter, Hoos and Leyton-Brown,
    "An Efficient Approach for Assessing Hyperparameter Importance", ICML 2014, as in Optuna's
    `FanovaImportanceEvaluator`.

    The intervals are percentiles over forests on trials drawn with replacement: the reports of a
    trial are correlated, so they are drawn together. Each interval contains the importance itself.

    Args:
        plan: The study's plan.
        trials: Trials with the same number of folds.
    """
    import numpy as np

    rows = _Rows.of_trials(plan, trials)
    num_trials, num_rows = len(np.unique(rows.trials)), len(rows.objectives)

    def undefined(reason: str) -> HyperparameterImportances:
        return HyperparameterImportances((), num_trials, num_rows, reason)

    if not plan.space.searched_hparams():
        return undefined("the space has no hyperparameter to search")
    if num_trials < MIN_TRIALS:
        return undefined(f"too few trials: {MIN_TRIALS} with reports are needed, not {num_trials}")
    if not np.ptp(rows.objectives):
        return undefined("every report has the same value")
    analysis = _VarianceAnalysis(plan, rows.levels(), trials[0].folds)
    fractions = analysis.fractions(rows.forest(NUM_TREES))
    if not fractions:
        return undefined("the forest predicts the same value for all configurations")
    ranked = tuple(sorted(fractions.items(), key=lambda item: -item[1]))
    intervals = _intervals(ranked, rows, analysis)
    return HyperparameterImportances(ranked, num_trials, num_rows, intervals=intervals)


@dataclass(frozen=True)
class _Rows:
    """The reports that a forest is fitted on: features (R, F), objectives and trials, each (R,)."""

    features: Floats
    objectives: Floats
    trials: NDArray[np.int64]

    @classmethod
    def of_trials(cls, plan: Plan, trials: Sequence[Trial]) -> _Rows:
        """Return the reports with an objective; their last feature is the scaled fold-epoch."""
        import numpy as np

        space, searched = plan.space, plan.space.searched_hparams()
        scales = [space.epochs / trial_epochs(space, trial.hparams) for trial in trials]
        rows = [
            (
                number,
                [*_features(searched, trial.hparams), report.epoch * scales[number]],
                report.objective,
            )
            for number, trial in enumerate(trials)
            for report in trial.reports
            if report.objective is not None
        ]
        return cls(
            np.array([features for _number, features, _objective in rows]),
            np.array([objective for _number, _features, objective in rows]),
            np.array([number for number, _features, _objective in rows], np.int64),
        )

    def levels(self) -> Floats:
        """Return an early, a middle and a late scaled fold-epoch of the reports."""
        import numpy as np

        epochs = self.features[:, -1]
        return np.unique(np.quantile(epochs, EPOCH_QUANTILES, method="nearest"))

    def forest(self, num_trees: int, seed: int = 0) -> RandomForestRegressor:
        """Fit a forest."""
        from sklearn.ensemble import RandomForestRegressor

        forest = RandomForestRegressor(
            num_trees, min_samples_leaf=2, max_features=0.5, random_state=seed
        )
        return forest.fit(self.features, self.objectives)

    def resampled(self, generator: np.random.Generator) -> _Rows:
        """Draw as many trials as there are, with replacement, with all of their reports."""
        import numpy as np

        numbers = np.unique(self.trials)
        rows_of = {number: np.flatnonzero(self.trials == number) for number in numbers.tolist()}
        drawn = generator.choice(numbers, len(numbers)).tolist()
        index = np.concatenate([rows_of[number] for number in drawn])
        return _Rows(self.features[index], self.objectives[index], self.trials[index])


def _intervals(
    ranked: Sequence[tuple[str, float]], rows: _Rows, analysis: _VarianceAnalysis
) -> tuple[ImportanceInterval, ...]:
    """Return the interval of each hyperparameter over forests on resampled trials."""
    import numpy as np

    generator = np.random.default_rng(0)
    replicates = []
    for seed in range(NUM_REPLICATES):
        resampled = rows.resampled(generator)
        fractions = analysis.fractions(resampled.forest(NUM_REPLICATE_TREES, seed))
        if fractions:
            replicates.append([fractions[name] for name, _fraction in ranked])
    if not replicates:
        return ()
    lows, highs = np.quantile(np.array(replicates), (0.025, 0.975), axis=0)
    return tuple(
        ImportanceInterval(name, min(low, fraction), max(high, fraction))
        for (name, fraction), low, high in zip(ranked, lows.tolist(), highs.tolist(), strict=True)
    )


class _VarianceAnalysis:
    """The variance of the predictions of forests over random configurations of a space.

    The rows that the forests predict are computed once.
    """

    def __init__(self, plan: Plan, levels: Floats, folds: int) -> None:
        """Draw the configurations; `levels` are the fold-epochs at which predictions are made."""
        import numpy as np

        self._space, self._searched = plan.space, plan.space.searched_hparams()
        self._levels = levels
        self._num_features = len(_features(self._searched, {})) + 1
        generator = np.random.default_rng(0)
        configurations: list[dict[str, Value]] = [
            {
                hparam.name: value_at(hparam, generator.random(), cells=False)
                for hparam in self._space.hparams
            }
            | {"folds": folds}
            for _ in range(NUM_CONFIGURATIONS)
        ]
        self._marginals = [
            _Marginal(hparam.name, *self._grid_rows(hparam, configurations))
            for hparam in self._searched
        ]
        parts = [self._rows_of(configurations), *(marginal.rows for marginal in self._marginals)]
        # One call for all rows: a call of a forest costs as much as thousands of rows.
        self._rows = np.concatenate(parts)
        self._ends = np.cumsum([len(part) for part in parts])[:-1]

    def fractions(self, forest: RandomForestRegressor) -> dict[str, float]:
        """Return the fraction of the variance by hyperparameter; empty if there is no variance."""
        import numpy as np

        predictions = np.split(np.asarray(forest.predict(self._rows)), self._ends)
        at_levels = predictions[0].reshape(len(self._levels), -1)
        total_variance = float(at_levels.var(axis=1).mean())
        if total_variance < MIN_VARIANCE:
            return {}
        return {
            marginal.name: min(self._variance(values, marginal) / total_variance, 1.0)
            for marginal, values in zip(self._marginals, predictions[1:], strict=True)
        }

    def _variance(self, predictions: Floats, marginal: _Marginal) -> float:
        """Return the variance of the mean prediction as one hyperparameter alone varies."""
        if not marginal.num_configurations:
            return 0.0
        values = predictions.reshape(len(self._levels), -1, marginal.num_configurations)
        variance = float(values.mean(axis=2).var(axis=1).mean())
        return variance * marginal.num_configurations / NUM_CONFIGURATIONS

    def _grid_rows(
        self, hparam: Hyperparameter, configurations: Sequence[Mapping[str, Value]]
    ) -> tuple[Floats, int]:
        """Return the rows of a marginal, and the number of configurations that have `hparam`."""
        having = [
            configuration
            for configuration in configurations
            if hparam.name in self._active(configuration)
        ]
        grid = [
            {**configuration, hparam.name: value}
            for value in _grid(hparam)
            for configuration in having
        ]
        return self._rows_of(grid), len(having)

    def _rows_of(self, configurations: Sequence[Mapping[str, Value]]) -> Floats:
        """Return the rows of all configurations at each level, shape (levels * N, features)."""
        import numpy as np

        features = np.array(
            [_features(self._searched, self._active(hparams)) for hparams in configurations]
        )
        if not len(features):
            return np.empty((0, self._num_features))
        return np.concatenate(
            [np.column_stack([features, np.full(len(features), level)]) for level in self._levels]
        )

    def _active(self, configuration: Mapping[str, Value]) -> dict[str, Value]:
        """Return the hyperparameters of `configuration` that exist beside the others."""
        return self._space.active_values(lambda hparam: configuration[hparam.name])


@dataclass(frozen=True)
class _Marginal:
    """What a forest predicts to vary one hyperparameter.

    Attributes:
        name: The hyperparameter.
        rows: Each configuration with each value, at each level.
        num_configurations: The configurations in which the hyperparameter exists.
    """

    name: str
    rows: Floats
    num_configurations: int


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
