"""What earlier studies forecast for the configurations of a new search, and how far to trust it.

Each earlier study has a model. A model whose forecasts do not order the trials of the new search is
dropped; the others have weights by how well they do, as in ranking-weighted ensembles (Feurer,
Letham, Hutter and Bakshy, 2018).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from raysearch.config.constraints import allowed
from raysearch.config.hyperparameter_spec import Hparams, Value
from raysearch.config.space import Space
from raysearch.config.space_geometry import sample_hparams, unit_point
from raysearch.metrics.objective import objective_sign
from raysearch.search.transfer.agreement import Floats, agreements, validity
from raysearch.search.transfer.configuration_encoder import (
    ConfigurationEncoder,
    nearest_configuration,
)
from raysearch.search.transfer.source_model import SourceModel
from raysearch.search.transfer.source_study import SourceStudy
from raysearch.training.seeds import key

# The candidates are so many random configurations, and the best of each study.
NUM_RANDOM, NUM_BEST = 500, 12
# A study whose model cannot order its own trials is no source.
MIN_QUALITY = 0.35
# A source is dropped for good if it is valid with less than this probability, after so many trials
# have reported.
DROP_PROBABILITY, CHECKPOINTS = 0.2, (6, 8, 12, 16, 24, 32)
# The weights depend on the first so many trials: those that follow are chosen by them.
MAX_WEIGHED_TRIALS = 64
# The trust before any report, and the smallest by which the memory is used.
INITIAL_TRUST, MIN_TRUST = 0.5, 0.3
# A source has the weight (strength / largest strength) ** WEIGHT_POWER.
WEIGHT_POWER = 4.0
# So many sources with the largest weights forecast, if their weights are this fraction of it.
MAX_SOURCES, MIN_WEIGHT = 16, 0.02
# What a configuration adds to the others beside its own forecast.
OWN_GAIN = 1e-6


class RungReport(NamedTuple):
    """A report of a trial at a rung.

    Attributes:
        trial: The name of the trial.
        hparams: Its hyperparameters.
        fraction: The fraction of its fold-epochs that it has trained.
        objective: Its objective, larger is better.
    """

    trial: str
    hparams: Hparams
    fraction: float
    objective: float


class StudyMemory:
    """The models of earlier studies, over the configurations of a new search.

    The same reports lead to the same weights, however often these are computed.

    Args:
        space: The search space.
        sources: The earlier studies; each has at least one trial.

    Attributes:
        names: The names of the studies whose models are used.
        qualities: How well the model of each study orders the study's own trials, by its name.
        trust: How far the best source is to be trusted, from 0 to 1; 0 if none is used.
    """

    def __init__(self, space: Space, sources: Sequence[SourceStudy]) -> None:
        self._space = space
        generator = np.random.default_rng(key(space.seed, "memory"))
        drawn = [sample_hparams(space, generator) for _number in range(NUM_RANDOM)]
        random = [hparams for hparams in drawn if allowed(space, hparams)] or drawn
        self._encoder = ConfigurationEncoder(
            [trial.hparams for source in sources for trial in source.trials]
        )
        random_rows = self._encoder.rows(random)
        models = {
            source.name: self._model(source, random_rows) for source in sources if source.trials
        }
        valid = {name: model for name, model in models.items() if model.quality >= MIN_QUALITY}
        self.qualities = {name: model.quality for name, model in models.items()}
        self.names = tuple(valid)
        self._models = list(valid.values())
        best = [
            hparams
            for source in sources
            if source.name in valid
            for hparams in best_configurations(space, source)
        ]
        unique = {_identity(hparams): hparams for hparams in (*random, *best)}
        self._candidates = list(unique.values())
        self._utilities = self._all_utilities(self._candidates)
        self._utilities_of: dict[frozenset[tuple[str, Value]], Floats] = {}
        self._dropped: dict[int, NDArray[np.bool_]] = {}
        self.trust = INITIAL_TRUST if self._models else 0.0
        self._weights = np.ones(len(self._models))

    def _model(self, source: SourceStudy, random_rows: Floats) -> SourceModel:
        rows = self._encoder.rows([trial.hparams for trial in source.trials])
        seed = key(self._space.seed, "memory", source.name) % 2**32
        return SourceModel(source, rows, random_rows, seed)

    def _all_utilities(self, configurations: Sequence[Hparams]) -> Floats:
        """The utilities of configurations by each model, shape (models, configurations)."""
        rows = self._encoder.rows(configurations)
        utilities = [model.utilities(rows) for model in self._models]
        return np.array(utilities).reshape(len(self._models), len(configurations))

    def _utilities_of_trial(self, hparams: Hparams) -> Floats:
        """The utilities of a trial by each model, shape (models,)."""
        identity = _identity(hparams)
        if identity not in self._utilities_of:
            self._utilities_of[identity] = self._all_utilities([hparams])[:, 0]
        return self._utilities_of[identity]

    def weigh(self, reports: Sequence[RungReport]) -> None:
        """Compute the weights of the sources by the first reports of the search."""
        if not self._models:
            return
        first_reports: dict[str, int] = {}
        for number, report in enumerate(reports):
            first_reports.setdefault(report.trial, number)
        starts = list(first_reports.values())
        if len(starts) < 2:
            self.trust, self._weights = INITIAL_TRUST, np.ones(len(self._models))
            return
        dropped = np.zeros(len(self._models), bool)
        for num_trials in CHECKPOINTS:
            if len(starts) <= num_trials:
                break
            if num_trials not in self._dropped:
                _strength, probability = self._strength(reports[: starts[num_trials]])
                self._dropped[num_trials] = probability < DROP_PROBABILITY
            dropped |= self._dropped[num_trials]
        if len(starts) > MAX_WEIGHED_TRIALS:
            reports = reports[: starts[MAX_WEIGHED_TRIALS]]
        strength, _probability = self._strength(reports)
        strength = np.where(dropped, 0.0, strength)
        self.trust, self._weights = 0.0, np.zeros(len(self._models))
        if strength.max() >= MIN_TRUST:
            self.trust = float(strength.max())
            self._weights = (strength / self.trust) ** WEIGHT_POWER

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each source by its name, from 0 to 1."""
        return dict(zip(self.names, self._weights.tolist(), strict=True))

    def _strength(self, reports: Sequence[RungReport]) -> tuple[Floats, Floats]:
        """The strength of each source, and the probability that it is valid, shape (models,)."""
        rows = {report.trial: row for row, report in enumerate(_last_reports(reports))}
        hparams = {report.trial: report.hparams for report in reports}
        columns = {
            fraction: column
            for column, fraction in enumerate(sorted({report.fraction for report in reports}))
        }
        objectives = np.full((len(rows), len(columns)), np.nan)
        for report in reports:
            objectives[rows[report.trial], columns[report.fraction]] = report.objective
        forecasts = np.array([self._utilities_of_trial(hparams[trial]) for trial in rows])
        agreement = agreements(objectives, forecasts)
        probability = validity(agreement, len(rows))
        agreement = np.where(np.isnan(agreement), INITIAL_TRUST, agreement)
        return probability * np.maximum(0.0, agreement), probability

    def scores(self, configurations: Sequence[Hparams]) -> Floats:
        """Return the mean utilities of configurations by the weighted sources, shape (n,)."""
        used = self._used()
        if not len(used) or not configurations:
            return np.zeros(len(configurations))
        rows = self._encoder.rows(configurations)
        utilities = np.array([self._models[model].utilities(rows) for model in used])
        return np.asarray(self._weights[used] @ utilities / self._weights[used].sum())

    def trial_scores(self, trials: Sequence[Hparams]) -> Floats:
        """Return `scores` of configurations that the search has started, shape (n,)."""
        used = self._used()
        if not len(used) or not trials:
            return np.zeros(len(trials))
        utilities = np.array([self._utilities_of_trial(hparams)[used] for hparams in trials])
        return np.asarray(utilities @ self._weights[used] / self._weights[used].sum())

    def _used(self) -> NDArray[np.int64]:
        """The models that forecast: those with the largest weights."""
        if not self.trust:
            return np.zeros(0, np.int64)
        order = np.argsort(-self._weights, kind="stable")[:MAX_SOURCES]
        return np.sort(order[self._weights[order] >= MIN_WEIGHT * self._weights.max()])

    def best(self, count: int, is_excluded: Callable[[Hparams], bool]) -> list[Hparams]:
        """Return the `count` configurations with the largest scores that are not excluded."""
        used = self._used()
        if not len(used):
            return []
        scores = self._weights[used] @ self._utilities[used]
        order = map(int, np.argsort(-scores, kind="stable"))
        candidates = (self._candidates[index] for index in order)
        chosen = (hparams for hparams in candidates if not is_excluded(hparams))
        return [hparams for hparams, _number in zip(chosen, range(count), strict=False)]

    def next_configuration(
        self, started: Sequence[Hparams], is_excluded: Callable[[Hparams], bool]
    ) -> Hparams | None:
        """Return the configuration that complements those that started best; None for no advice.

        The best utilities over the configurations, summed by the weights of the sources, increase
        most by it.
        """
        if not self.trust:
            return None
        utilities = [self._utilities_of_trial(hparams) for hparams in started]
        best = np.max([np.zeros(len(self._models)), *utilities], axis=0)
        gains = self._weights @ np.maximum(0.0, self._utilities - best[:, None])
        gains += OWN_GAIN * (self._weights @ self._utilities)
        identities = set(map(_identity, started))
        for index in map(int, np.argsort(-gains, kind="stable")):
            hparams = self._candidates[index]
            if _identity(hparams) not in identities and not is_excluded(hparams):
                return hparams
        return None

    def points(self, configurations: Sequence[Hparams]) -> Floats:
        """Return the points of configurations in the unit cube of the space, shape (n, d)."""
        points = [unit_point(self._space, hparams) for hparams in configurations]
        return np.array(points).reshape(len(points), len(self._space.hparams))


def best_configurations(space: Space, source: SourceStudy) -> list[dict[str, Value]]:
    """Return the configurations of `space` nearest to the best trials of a study, best first."""
    sign = objective_sign(source.mode)
    ranked = sorted(
        source.trials, key=lambda trial: (trial.curve[-1][0], sign * trial.curve[-1][1])
    )
    nearest = (nearest_configuration(space, trial.hparams) for trial in reversed(ranked))
    valid = (each for each in nearest if each is not None and allowed(space, each))
    return [hparams for hparams, _number in zip(valid, range(NUM_BEST), strict=False)]


def _identity(hparams: Hparams) -> frozenset[tuple[str, Value]]:
    return frozenset(hparams.items())


def _last_reports(reports: Sequence[RungReport]) -> list[RungReport]:
    """The last report of each trial, in the order of the first ones."""
    return list({report.trial: report for report in reports}.values())
