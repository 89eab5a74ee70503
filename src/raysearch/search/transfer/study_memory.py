"""What earlier studies forecast for the configurations of a new search, and how far to trust it.

Each earlier study has a model. A model whose forecasts do not order the trials of the new search is
dropped; the others have weights by how well they do, as in ranking-weighted ensembles (Feurer,
Letham, Hutter and Bakshy, 2018).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from raysearch.config.hyperparameter_spec import Hparams, Value
from raysearch.config.space import Space
from raysearch.config.space_geometry import unit_point
from raysearch.search.transfer.agreement import Agreement, Floats, agreements, validity
from raysearch.search.transfer.source_models import SourceModels
from raysearch.search.transfer.source_study import SourceStudy

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

    The same reports lead to the same weights, however often these are computed. The models are
    fitted at their first use: most commands only read a study.

    Args:
        space: The search space.
        sources: The earlier studies; each has at least one trial.

    Attributes:
        names: The names of the studies.
        trust: How far the best source is to be trusted, from 0 to 1; 0 if none is used.
    """

    def __init__(self, space: Space, sources: Sequence[SourceStudy]) -> None:
        self._space, self._sources = space, tuple(sources)
        self.names = tuple(source.name for source in sources)
        self._utilities_of: dict[frozenset[tuple[str, Value]], Floats] = {}
        self._dropped: dict[int, NDArray[np.bool_]] = {}
        self.trust = INITIAL_TRUST if sources else 0.0
        self._weights = np.ones(len(sources))

    @cached_property
    def _models(self) -> SourceModels:
        return SourceModels(self._space, self._sources)

    def _utilities_of_trial(self, hparams: Hparams) -> Floats:
        """The utilities of a trial by each model, shape (models,)."""
        identity = _identity(hparams)
        if identity not in self._utilities_of:
            self._utilities_of[identity] = self._models.utilities([hparams])[:, 0]
        return self._utilities_of[identity]

    def weigh(self, reports: Sequence[RungReport]) -> None:
        """Compute the weights of the sources by the first reports of the search."""
        if not self.names:
            return
        first_reports: dict[str, int] = {}
        for number, report in enumerate(reports):
            first_reports.setdefault(report.trial, number)
        starts = list(first_reports.values())
        dropped = np.zeros(len(self.names), bool)
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
        if strength is None:  # nothing was compared
            self.trust, self._weights = INITIAL_TRUST, np.ones(len(self.names))
            return
        strength = np.where(dropped, 0.0, strength)
        self.trust, self._weights = 0.0, np.zeros(len(self.names))
        if strength.max() >= MIN_TRUST:
            self.trust = float(strength.max())
            self._weights = (strength / self.trust) ** WEIGHT_POWER

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each source by its name, from 0 to 1."""
        return dict(zip(self.names, self._weights.tolist(), strict=True))

    def _strength(self, reports: Sequence[RungReport]) -> tuple[Floats | None, Floats]:
        """The strength of each source, and the probability that it is valid, shape (models,).

        The strength is None if no two trials can be compared.
        """
        last_reports = {report.trial: report for report in reports}
        rows = {trial: row for row, trial in enumerate(last_reports)}
        fractions = sorted({report.fraction for report in reports})
        columns = {fraction: column for column, fraction in enumerate(fractions)}
        objectives = np.full((len(rows), len(columns)), np.nan)
        for report in reports:
            objectives[rows[report.trial], columns[report.fraction]] = report.objective
        if not rows:
            return None, validity(Agreement(np.zeros(len(self.names)), 0))
        forecasts = [self._utilities_of_trial(report.hparams) for report in last_reports.values()]
        agreement = agreements(np.array(fractions), objectives, np.array(forecasts))
        probability = validity(agreement)
        if not agreement.num_trials:
            return None, probability
        return probability * np.maximum(0.0, agreement.values), probability

    def scores(self, configurations: Sequence[Hparams]) -> Floats:
        """Return the mean utilities of configurations by the weighted sources, shape (n,)."""
        used = self._used()
        if not len(used) or not configurations:
            return np.zeros(len(configurations))
        utilities = self._models.utilities(configurations, used)
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
        scores = self._weights[used] @ self._models.candidate_utilities[used]
        order = map(int, np.argsort(-scores, kind="stable"))
        candidates = (self._models.candidates[index] for index in order)
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
        reached = [self._utilities_of_trial(hparams) for hparams in started]
        best = np.max([np.zeros(len(self.names)), *reached], axis=0)
        utilities = self._models.candidate_utilities
        gains = self._weights @ np.maximum(0.0, utilities - best[:, None])
        gains += OWN_GAIN * (self._weights @ utilities)
        identities = set(map(_identity, started))
        for index in map(int, np.argsort(-gains, kind="stable")):
            hparams = self._models.candidates[index]
            if _identity(hparams) not in identities and not is_excluded(hparams):
                return hparams
        return None

    def points(self, configurations: Sequence[Hparams]) -> Floats:
        """Return the points of configurations in the unit cube of the space, shape (n, d)."""
        points = [unit_point(self._space, hparams) for hparams in configurations]
        return np.array(points).reshape(len(points), len(self._space.hparams))


def _identity(hparams: Hparams) -> frozenset[tuple[str, Value]]:
    return frozenset(hparams.items())
