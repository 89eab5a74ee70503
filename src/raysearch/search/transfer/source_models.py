"""The models of several earlier studies, and the configurations that they propose."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from raysearch.config.constraints import allowed
from raysearch.config.hyperparameter_spec import Hparams, Value
from raysearch.config.space import Space
from raysearch.config.space_geometry import sample_hparams
from raysearch.metrics.objective import objective_sign
from raysearch.search.transfer.configuration_encoder import (
    ConfigurationEncoder,
    Floats,
    nearest_configuration,
)
from raysearch.search.transfer.source_model import SourceModel, model_quality
from raysearch.search.transfer.source_study import SourceStudy
from raysearch.training.seeds import key

# The candidates are so many random configurations, and the best of each study.
NUM_RANDOM, NUM_BEST = 500, 12
# A study whose model cannot order its own trials is no source.
MIN_QUALITY = 0.35


class SourceModels:
    """The models of earlier studies, over the configurations of a new space.

    Args:
        space: The search space.
        sources: The earlier studies.

    Attributes:
        candidates: Configurations that satisfy the constraints: random ones, and the nearest to the
            best of each study.
        candidate_utilities: Their utilities by each model, shape (models, candidates).
    """

    def __init__(self, space: Space, sources: Sequence[SourceStudy]) -> None:
        generator = np.random.default_rng(key(space.seed, "memory"))
        random = [sample_hparams(space, generator) for _number in range(NUM_RANDOM)]
        self._encoder = ConfigurationEncoder(
            [trial.hparams for source in sources for trial in source.trials]
        )
        self._epochs = space.epochs
        random_rows = self._rows(random)
        self._models = [
            SourceModel(
                source,
                self._encoder.rows([trial.hparams for trial in source.trials]),
                random_rows,
                key(space.seed, "memory", source.name) % 2**32,
            )
            for source in sources
        ]
        best = [hparams for source in sources for hparams in best_configurations(space, source)]
        valid = (hparams for hparams in random if allowed(space, hparams))
        distinct: dict[frozenset[tuple[str, Value]], Hparams] = {
            frozenset(hparams.items()): hparams for hparams in (*valid, *best)
        }
        self.candidates = list(distinct.values())
        self.candidate_utilities = self.utilities(self.candidates)

    def _rows(self, configurations: Sequence[Hparams]) -> Floats:
        """The features of configurations; their epochs may be no hyperparameter of the space."""
        return self._encoder.rows([{"epochs": self._epochs, **each} for each in configurations])

    def utilities(
        self, configurations: Sequence[Hparams], models: NDArray[np.int64] | None = None
    ) -> Floats:
        """Return the utilities of configurations, shape (models, configurations).

        Args:
            configurations: The configurations.
            models: The numbers of the models; None for all.
        """
        rows = self._rows(configurations)
        numbers = range(len(self._models)) if models is None else map(int, models)
        if not configurations:
            return np.empty((len(self._models) if models is None else len(models), 0))
        return np.array([self._models[number].utilities(rows) for number in numbers])


def has_pattern(source: SourceStudy) -> bool:
    """Return whether the results of a study depend on its hyperparameters."""
    return model_quality(source) >= MIN_QUALITY


def best_configurations(space: Space, source: SourceStudy) -> list[dict[str, Value]]:
    """Return the configurations of `space` nearest to the best trials of a study, best first."""
    sign = objective_sign(source.mode)
    ranked = sorted(
        source.trials, key=lambda trial: (trial.curve[-1][0], sign * trial.curve[-1][1])
    )
    nearest = (nearest_configuration(space, trial.hparams) for trial in reversed(ranked))
    return list(islice((each for each in nearest if each and allowed(space, each)), NUM_BEST))
