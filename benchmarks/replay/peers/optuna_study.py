"""An Optuna study that a simulated worker asks and tells as `Study.optimize` would."""

from __future__ import annotations

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.pruners import BasePruner, NopPruner
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from replay.clock import Work
from replay.curves import EPOCHS, Ranges


def distributions(ranges: Ranges) -> dict[str, BaseDistribution]:
    """The search space in Optuna's words."""
    return {
        name: IntDistribution(int(low), int(high), log=log)
        if kind == "int"
        else FloatDistribution(low, high, log=log)
        for name, (kind, low, high, log) in ranges.items()
    }


class OptunaStudy:
    """Asks a sampler for each trial, and a pruner after each epoch.

    A step is an epoch, counted from 1. A pruned trial is told PRUNED, for which Optuna takes the
    last value reported; a finished one COMPLETE with its last value. Brackets of Hyperband hang
    on the name of the study, so it is the seed's.
    """

    def __init__(
        self, ranges: Ranges, seed: int, sampler: BaseSampler, pruner: BasePruner | None = None
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._space = distributions(ranges)
        self._study = optuna.create_study(
            study_name=f"seed {seed}",
            direction="maximize",
            sampler=sampler,
            pruner=pruner or NopPruner(),
        )
        self._asked: dict[str, optuna.Trial] = {}

    def next(self) -> Work:
        asked = self._study.ask(self._space)
        self._asked[str(asked.number)] = asked
        return Work(str(asked.number), asked.params, 0)

    def report(self, trial: str, epoch: int, value: float, seconds: float) -> bool:  # noqa: ARG002
        asked = self._asked[trial]
        asked.report(value, epoch)
        if asked.should_prune():
            self._study.tell(asked, state=TrialState.PRUNED)
        elif epoch == EPOCHS:
            self._study.tell(asked, value)
        else:
            return True
        del self._asked[trial]
        return False
