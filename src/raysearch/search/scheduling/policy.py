"""What happens next in a study: a function of its space and of the events that happened.

Nothing here is written or run. Fed with a study's journal up to any of its decisions, a course
decides the same again; that is how a study resumes, and how a simulator tries a search.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from raysearch.config.constraints import allowed
from raysearch.config.space import Space, Value
from raysearch.errors import StudyError
from raysearch.search.journal.history import History, Trial
from raysearch.search.journal.journal import Event
from raysearch.search.journal.rungs import cannot_catch_up, out_of_patience
from raysearch.search.sampling.sampler import propose
from raysearch.search.scheduling.budget import exhausted, last_affordable_trial
from raysearch.search.scheduling.forest import ByForest
from raysearch.search.scheduling.stopping_rules import Asha, Begin, Never, Promotion, Rule
from raysearch.training.seeds import key

# So often the sampler is asked for hyperparameters that satisfy the constraints.
ATTEMPTS = 200
RULES: Mapping[str, type[Never]] = {
    "none": Never,
    "asha": Asha,
    "promotion": Promotion,
    "forest": ByForest,
}


def rule_of(space: Space) -> Rule:
    """The rule by which trials of `space` stop, wait and go on."""
    return RULES[space.stopping.rule](space)


class SearchPolicy:
    """The history of a study, and what its space makes of it."""

    def __init__(self, space: Space, events: Iterable[Event] = ()) -> None:
        self.space = space
        self.rule = rule_of(space)
        self._forest = self.rule if isinstance(self.rule, ByForest) else ByForest(space)
        self.history = History(events)

    def take(self, event: Event) -> None:
        """Take in what happened."""
        self.history.apply(event)

    @property
    def trials(self) -> int:
        """How many trials are planned, with what later launches added."""
        return self.history.planned(self.space.trials)

    def whole(self, trial: Trial) -> int:
        """The fold-epochs after which `trial` is finished."""
        return trial.folds * self.space.epochs

    def is_rung(self, trial: Trial, epoch: int) -> bool:
        """Whether trials such as `trial` are compared after `epoch` fold-epochs."""
        return trial.kind == "trial" and epoch in self.rule.levels(trial.folds)

    def next(self) -> Event | None:
        """The event by which a free slot gets a trial, new or waiting; None where there is none."""
        if self.over() is not None:
            return None
        alone = last_affordable_trial(self.space, self.history)
        if alone is not None:
            return {"event": "promote", "trial": alone.id} if alone.status == "paused" else None
        pick = self.rule.pick(self.history, self._may_begin())
        if isinstance(pick, Trial):
            return {"event": "promote", "trial": pick.id}
        return None if pick is None else self._new(pick)

    def decision(self, trial: Trial) -> Event | None:
        """The event by which `trial` ends or waits after its last report; None if it goes on."""
        if trial.epoch >= self.whole(trial):
            return end_of(trial, "finished", "all folds done")
        if trial.kind != "trial":
            return None
        alone = last_affordable_trial(self.space, self.history, trial)
        why = self._stop_reason(trial, alone)
        if why is not None:
            return end_of(trial, "stopped", why)
        if alone is not None or not trial.reports[-1]["rung"]:
            return None
        return self._at_rung(trial)

    def _at_rung(self, trial: Trial) -> Event | None:
        decision = self.rule.decision(self.history, trial, self._may_begin())
        if decision == "pause":
            return {"event": "pause", "trial": trial.id}
        if decision == "stop" and not self._is_last_hope(trial, None):
            return end_of(trial, "stopped", f"rung {trial.epoch}")
        return None

    def over(self) -> str | None:
        """Why nothing is begun or gone on with any more, by the budget; None while it lasts."""
        return exhausted(self.space, self.history)

    def last_of(self, trial: Trial) -> Event:
        """The event that ends a trial which did not when the study did."""
        why = self.over() or f"not among the best at rung {trial.epoch}"
        return end_of(trial, "stopped", why)

    def _may_begin(self) -> bool:
        return len(self.history.searched()) < self.trials

    def _stop_reason(self, trial: Trial, alone: Trial | None) -> str | None:
        """Why `trial` is not worth going on with, by its own reports and the best trial's.

        `alone` is the one trial that the budget has room for.
        """
        if alone is not None and alone is not trial:
            return f"the budget is left to {alone.id}"
        space, last = self.space, trial.reports[-1]
        mine = [one["objective"] for one in trial.reports if one["fold"] == last["fold"]]
        if out_of_patience(mine, space.stopping.patience, space.mode) and not self._is_last_hope(
            trial, alone
        ):
            return f"no improvement in {space.stopping.patience} epochs"
        if not space.stopping.paired or trial.epoch % space.epochs:
            return None
        best = self.history.best(trial.folds, space.mode)
        if best is None:
            return None
        mine, theirs = self._fold_values(trial), self._fold_values(best)
        if not cannot_catch_up(mine, theirs, space.mode, space.stopping.paired):
            return None
        return f"worse than {best.id} by a paired test of {len(mine)} folds"

    def _is_last_hope(self, trial: Trial, alone: Trial | None) -> bool:
        """Whether none has finished, and but for `trial` none can any more.

        A study should end with a champion.
        """
        if self.history.done():
            return False
        unended = (*self.history.running(), *self.history.paused())
        left = any(one.kind == "trial" and one is not trial for one in unended)
        return alone is trial or not (left or self._may_begin())

    def _fold_values(self, trial: Trial) -> list[float]:
        ends = trial.fold_ends(self.space.epochs)
        return [float(end["metrics"][self.space.metric]) for end in ends]

    def _new(self, begin: Begin) -> Event | None:
        """The event of a new trial; None where a grid has no further one."""
        number = len(self.history.searched())
        given = begin.hparams if number >= len(self.space.points) else None
        hparams = self._hparams(number) if given is None else dict(given)
        return trial_event(self.space, f"t{number:04d}", "trial", hparams) if hparams else None

    def _hparams(self, number: int) -> dict[str, Value]:
        """The hyperparameters of the trial `number`: a point's, and what the sampler proposes beside it."""
        space, history = self.space, self.history
        points = [dict(space.points[number]), {}] if number < len(space.points) else [{}]
        for point in points:
            for attempt in range(ATTEMPTS):
                proposal = self._proposal(number, attempt)
                chosen = {**proposal, **point} if point else proposal
                chosen = _existing(space, chosen) if point else chosen
                if not chosen or allowed(space, chosen):
                    return chosen
        raise StudyError(
            f"trial {number}: none of {ATTEMPTS} proposals satisfies the constraints, with"
            f" {len(history.searched())} trials begun; loosen them"
        )

    def _proposal(self, number: int, attempt: int) -> dict[str, Value]:
        if self.space.sampling.name == "forest" and not attempt:
            new = self._forest.new(self.history)
            if new is not None:
                return new
        return propose(self.space, self.history, number, attempt)


def _existing(space: Space, values: Mapping[str, Value]) -> dict[str, Value]:
    """Those of `values` whose hyperparameters exist beside the others; the first value of one left out."""
    chosen: dict[str, Value] = {}
    for hyperparameter in space.hparams:
        if hyperparameter.active(chosen):
            chosen[hyperparameter.name] = values.get(hyperparameter.name, hyperparameter.values[0])
    return chosen


def trial_event(space: Space, trial: str, kind: str, hparams: Mapping[str, Any]) -> Event:
    """The event by which the trial named `trial` begins."""
    folds = int(hparams.get("folds", min(map(int, space.values_of("folds", 3)))))
    return {
        "event": "trial",
        "trial": trial,
        "kind": kind,
        "hparams": dict(hparams),
        "seed": key(space.seed, trial),
        "folds": folds,
    }


def end_of(trial: Trial, status: str, reason: str) -> Event:
    """The event by which `trial` ends."""
    return {"event": "end", "trial": trial.id, "status": status, "reason": reason}
