"""Decides what a study does next, from its space and the events of its journal.

The policy neither writes nor runs anything. For the same events it makes the same decisions; a
study resumes by this, and a simulation evaluates a search by it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from raysearch.config.constraints import allowed
from raysearch.config.hyperparameter_spec import Hparams, Value
from raysearch.config.names import FROZEN
from raysearch.config.report_interval import trial_epochs
from raysearch.config.space import Space
from raysearch.config.space_geometry import sample_hparams
from raysearch.errors import StudyError
from raysearch.search.journal.events import (
    EndStatus,
    Event,
    Origin,
    TrialEnded,
    TrialKind,
    TrialPaused,
    TrialPromoted,
    TrialStarted,
)
from raysearch.search.journal.history import History, Trial, num_folds, total_fold_epochs
from raysearch.search.sampling.exclusions import remaining_space
from raysearch.search.sampling.sampler import Proposals, propose, sampled_origin
from raysearch.search.scheduling.budget import (
    affords_beside_others,
    can_finish_another,
    cannot_afford,
    exhausted,
    last_affordable_trial,
    prefers_shorter,
)
from raysearch.search.scheduling.forest import ForestRule
from raysearch.search.scheduling.stop_criteria import cannot_catch_up, out_of_patience
from raysearch.search.scheduling.stopping_rules import (
    Asha,
    NoStopping,
    Promotion,
    StartTrial,
    StoppingRule,
)
from raysearch.search.transfer.study_memory import StudyMemory
from raysearch.training.seeds import key

# So many proposals of the sampler, then so many random configurations, are tested against the
# constraints before the study gives up.
MAX_ATTEMPTS, MAX_RANDOM_ATTEMPTS = 200, 20_000
# The proposals that the budget cannot finish before the trial gets a random configuration.
MAX_TOO_LONG = 10
RULES: Mapping[str, type[NoStopping]] = {
    "none": NoStopping,
    "asha": Asha,
    "promotion": Promotion,
    "forest": ForestRule,
}


def rule_of(space: Space) -> StoppingRule:
    """The early-stopping rule of `space`."""
    return RULES[space.stopping.rule](space)


class SearchPolicy:
    """The search of a study: its history, and the decisions that follow from it.

    Args:
        space: The search space.
        events: The events of the study's journal so far.
        rule: The early-stopping rule; by default that of the space.
        proposals: Makes the proposals that the forest does not make; by default the sampler.
        memory: The models of earlier studies, which the sampler `forest` uses; None without any.
    """

    def __init__(
        self,
        space: Space,
        events: Iterable[Event] = (),
        rule: StoppingRule | None = None,
        proposals: Proposals = propose,
        memory: StudyMemory | None = None,
    ) -> None:
        self.space = space
        self._proposals = proposals
        if space.sampler.name != "forest" or (memory is not None and not memory.names):
            memory = None
        forest = ForestRule(space, memory=memory)
        self.rule = rule or (forest if space.stopping.rule == "forest" else rule_of(space))
        self._forest = self.rule if isinstance(self.rule, ForestRule) else forest
        self.history = History(events)

    def apply(self, event: Event) -> None:
        """Update the history by the journal's next event."""
        self.history.apply(event)

    @property
    def num_trials(self) -> int:
        """The planned number of trials, with those that later launches added."""
        return self.history.planned(self.space.trials)

    def total_fold_epochs(self, trial: Trial) -> int:
        """The fold-epochs after which `trial` is finished."""
        return total_fold_epochs(self.space, trial)

    def is_rung(self, trial: Trial, epoch: int) -> bool:
        """Whether trials such as `trial` are compared after `epoch` fold-epochs.

        A classifier of frozen features reports at the ends of its folds only. It is compared at the
        last one, too: with a single fold, the search would learn nothing from it.
        """
        if trial.kind != "trial":
            return False
        if trial.hparams.get("adaptation") == FROZEN and epoch == self.total_fold_epochs(trial):
            return True
        return epoch in self.rule.levels(trial.folds, trial_epochs(self.space, trial.hparams))

    def next(self) -> TrialStarted | TrialPromoted | None:
        """Decide what a free slot trains: a new trial, a promoted one, or None for neither.

        A slot that would be idle while another trial trains continues the best paused trial.
        """
        if self.exhausted() is not None:
            return None
        last_trial = last_affordable_trial(self.space, self.history)
        if last_trial is not None:
            return TrialPromoted(last_trial.id) if last_trial.status == "paused" else None
        return self._picked() or self._for_idle_slot()

    def _picked(self) -> TrialStarted | TrialPromoted | None:
        """What the rule picks."""
        pick = self.rule.pick(self.history, self._may_start())
        if isinstance(pick, StartTrial):
            started = self._new_trial(pick)
            if started is not None:
                return started
            # The grid has no further point.
            pick = self.rule.pick(self.history, False)
        return TrialPromoted(pick.id) if isinstance(pick, Trial) else None

    def _for_idle_slot(self) -> TrialPromoted | None:
        """The best paused trial, if another trial trains and the budget suffices for both."""
        if not self._others_train():
            return None
        best = self.rule.best_paused(self.history)
        if best is None or not affords_beside_others(self.space, self.history, best):
            return None
        return TrialPromoted(best.id, in_idle_slot=True)

    def _others_train(self) -> bool:
        """Whether a trial trains for which the study goes on.

        Trials in idle slots do not prolong a study, unless no trial has finished.
        """
        training = [trial for trial in self.history.running() if trial.kind == "trial"]
        if not self.history.done():
            return bool(training)
        return any(not trial.in_idle_slot for trial in training)

    def decide(self, trial: Trial) -> TrialEnded | TrialPaused | None:
        """Decide whether `trial` ends or pauses after its last report; None if it continues."""
        if trial.epoch >= self.total_fold_epochs(trial):
            return trial_ended(trial, "finished", "all folds done")
        if trial.kind != "trial":
            return None
        last_trial = last_affordable_trial(self.space, self.history, trial)
        reason = self._budget_reason(trial, last_trial) or self._stop_reason(trial, last_trial)
        if reason is not None:
            return trial_ended(trial, "stopped", reason)
        if trial.in_idle_slot and not self._others_train() and self._picked() is None:
            return self.end_unfinished(trial)
        if last_trial is not None or not trial.reports[-1].rung:
            return None
        return self._decide_at_rung(trial)

    def _decide_at_rung(self, trial: Trial) -> TrialEnded | TrialPaused | None:
        if trial.in_idle_slot:  # the next pick says whether it continues, and for what reason
            return TrialPaused(trial.id)
        decision = self.rule.decide(self.history, trial, self._may_start())
        if decision == "pause":
            return TrialPaused(trial.id)
        if decision == "stop" and not self._is_last_candidate(trial, None):
            return trial_ended(trial, "stopped", f"rung {trial.epoch}")
        return None

    def exhausted(self) -> str | None:
        """Why the budget ends the study now; None while it may continue."""
        return exhausted(self.space, self.history)

    def end_unfinished(self, trial: Trial) -> TrialEnded:
        """The end of a trial that is unfinished when the study ends."""
        rungs = (report.epoch for report in reversed(trial.reports) if report.rung)
        reason = self.exhausted() or f"not among the best at rung {next(rungs, trial.epoch)}"
        return trial_ended(trial, "stopped", reason)

    def _may_start(self) -> bool:
        return len(self.history.searched()) < self.num_trials

    def _budget_reason(self, trial: Trial, last_trial: Trial | None) -> str | None:
        """Why the budget does not suffice for `trial`; None if it continues.

        `last_trial` is the only trial that the budget still allows to finish, if there is one.
        """
        if last_trial is not None and last_trial is not trial:
            return f"the budget is left to {last_trial.id}"
        if last_trial is None and cannot_afford(self.space, self.history, trial):
            return "the budget is left to shorter trials"
        return None

    def _stop_reason(self, trial: Trial, last_trial: Trial | None) -> str | None:
        """Why `trial` stops, given its own and the best trial's reports; None if it continues."""
        space, last_report = self.space, trial.reports[-1]
        in_fold = [report.objective for report in trial.reports if report.fold == last_report.fold]
        values = [value for value in in_fold if value is not None]
        if out_of_patience(values, space.stopping.patience, space.mode) and (
            not self._is_last_candidate(trial, last_trial)
        ):
            return f"no improvement in {space.stopping.patience} epochs"
        epochs = trial_epochs(space, trial.hparams)
        if not space.stopping.paired_alpha or trial.epoch % epochs:
            return None
        best = self.history.best(trial.folds, space.mode)
        if best is None:
            return None
        values, best_values = self._fold_values(trial), self._fold_values(best)
        if not cannot_catch_up(values, best_values, space.mode, space.stopping.paired_alpha):
            return None
        return f"worse than {best.id} by a paired test of {len(values)} folds"

    def _is_last_candidate(self, trial: Trial, last_trial: Trial | None) -> bool:
        """Whether no trial has finished, and none but `trial` still can.

        Such a trial is not stopped, so that the study ends with a champion.
        """
        if self.history.done():
            return False
        return last_trial is trial or not can_finish_another(self.space, self.history, trial)

    def _fold_values(self, trial: Trial) -> list[float]:
        ends = trial.fold_ends(trial_epochs(self.space, trial.hparams))
        values = [end.metrics[self.space.metric] for end in ends]
        return [math.nan if value is None else value for value in values]

    def _new_trial(self, start: StartTrial) -> TrialStarted | None:
        """The start of a new trial; None if a grid has no further point."""
        number = len(self.history.searched())
        chosen = start.hparams if number >= len(self.space.points_to_evaluate) else None
        is_rejected = chosen is not None and (
            self._is_too_long(chosen) or not allowed(self.space, chosen)
        )
        if chosen is None or is_rejected:
            hparams, origin = self._hparams(number)
        else:
            hparams, origin = dict(chosen), start.origin
        if not hparams:
            return None
        return trial_started(self.space, f"t{number:04d}", "trial", hparams, origin)

    def _hparams(self, number: int) -> tuple[dict[str, Value], Origin | None]:
        """The hyperparameters of trial `number`, and what proposed them.

        They are a point, completed by the sampler's proposal, or that proposal.
        """
        space, history = self.space, self.history
        points: list[dict[str, Value]] = [{}]
        if number < len(space.points_to_evaluate):
            point = dict(space.points_to_evaluate[number])
            points = [{}] if history.is_excluded(point) else [point, {}]
        remaining = remaining_space(space, history)
        too_long: list[dict[str, Value]] = []
        for point in points:
            for attempt in range(MAX_ATTEMPTS):
                proposal, origin = self._proposal(number, attempt)
                hparams = {**proposal, **point} if point else proposal
                hparams = _active(remaining, hparams) if point else hparams
                origin = "space" if point else origin
                if not hparams:
                    return hparams, origin
                if not allowed(space, hparams):
                    continue
                if not self._is_too_long(hparams):
                    return hparams, origin
                too_long.append(hparams)
                if not len(too_long) % MAX_TOO_LONG:
                    break
        return self._random_hparams(number, remaining, too_long), "random"

    def _is_too_long(self, hparams: Hparams) -> bool:
        """Whether the budget cannot finish a new trial, but could finish a shorter one.

        A grid trains its points in their order nevertheless.
        """
        folds = num_folds(self.space, hparams)
        return self.space.sampler.name != "grid" and prefers_shorter(
            self.space, self.history, hparams, folds
        )

    def _random_hparams(
        self, number: int, remaining: Space, too_long: Sequence[dict[str, Value]]
    ) -> dict[str, Value]:
        """The first random configuration of `remaining` that satisfies the constraints.

        If there are proposals that are `too_long`, it is also short enough, or the first of them.
        """
        generator = np.random.default_rng(key(self.space.seed, "fallback", number))
        for _attempt in range(MAX_ATTEMPTS if too_long else MAX_RANDOM_ATTEMPTS):
            hparams = sample_hparams(remaining, generator)
            if allowed(remaining, hparams) and not self._is_too_long(hparams):
                return hparams
        if too_long:
            return too_long[0]
        num_tested, num_started = MAX_ATTEMPTS + MAX_RANDOM_ATTEMPTS, len(self.history.searched())
        raise StudyError(
            f"trial {number}: none of {num_tested:,} proposals satisfies the constraints, with"
            f" {num_started} trials started; loosen the constraints"
        )

    def _proposal(self, number: int, attempt: int) -> tuple[dict[str, Value], Origin | None]:
        if self.space.sampler.name == "forest" and not attempt:
            start = self._forest.propose(self.history)
            if start.hparams is not None:
                return dict(start.hparams), start.origin
        hparams = self._proposals(self.space, self.history, number, attempt)
        return hparams, sampled_origin(self.space, number)


def _active(space: Space, values: Mapping[str, Value]) -> dict[str, Value]:
    """The active hyperparameters among `values`; the first choice for one that is missing."""
    return space.active_values(
        lambda hyperparameter: values.get(hyperparameter.name, hyperparameter.values[0])
    )


def trial_started(
    space: Space, trial: str, kind: TrialKind, hparams: Hparams, origin: Origin | None = None
) -> TrialStarted:
    """The start of the trial named `trial`, whose hyperparameters `origin` proposed."""
    folds = num_folds(space, hparams)
    return TrialStarted(trial, kind, dict(hparams), key(space.seed, trial), folds, origin)


def trial_ended(trial: Trial, status: EndStatus, reason: str) -> TrialEnded:
    """The end of `trial`."""
    return TrialEnded(trial.id, status, reason)
