"""The state of a study, rebuilt from the events of its journal."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

from raysearch.config.hyperparameter_spec import Hparams, Value
from raysearch.config.report_interval import trial_epochs
from raysearch.config.space import Space
from raysearch.errors import StudyError
from raysearch.metrics.objective import objective_sign
from raysearch.search.journal.events import (
    ChampionDecision,
    ChampionSelected,
    Event,
    FoldReport,
    Origin,
    RefitTrained,
    RepeatFailed,
    RepeatTrained,
    ScoresReplaced,
    StudyLaunched,
    TrialEnded,
    TrialKind,
    TrialPaused,
    TrialPromoted,
    TrialSelected,
    TrialsExtended,
    TrialStarted,
    TrialWarning,
    ValueExcluded,
)
from raysearch.search.journal.rungs import Mode, Rung, RungKey
from raysearch.search.journal.trial_costs import TrialCosts, fixed_costs, running_costs

Status = Literal["running", "paused", "finished", "stopped", "failed"]
# The trial with this name is computed from the class frequencies, not trained.
MAJORITY = "majority"
BASELINES = ("benchmark", MAJORITY)


@dataclass
class Trial:
    """A trial: its hyperparameters, its reports in order, and how it ended.

    `started` and `ended` are seconds since the epoch. `end_rank` is the number of searched trials
    that ended before it, as `History.num_ended` counts them; -1 if it has not ended. `in_idle_slot`
    says that it trains only because its slot would be idle while others train. `score_hashes` has
    the SHA-256 of the file of scores of each fold-epoch, `repeats` the files of each repeat seed
    and fold, and `refit_hash` the SHA-256 of the file of the refitted network. `origin` says what
    proposed its hyperparameters, if that is known.
    """

    id: str
    kind: TrialKind
    hparams: Hparams
    seed: int
    folds: int
    started: float = 0.0
    ended: float = 0.0
    reports: list[FoldReport] = field(default_factory=list)
    status: Status = "running"
    reason: str = ""
    end_rank: int = -1
    in_idle_slot: bool = False
    score_hashes: dict[int, str] = field(default_factory=dict)
    repeats: dict[tuple[int, int], RepeatTrained] = field(default_factory=dict)
    refit_hash: str | None = None
    origin: Origin | None = None

    @property
    def epoch(self) -> int:
        """The fold-epochs that it has trained."""
        return self.reports[-1].epoch if self.reports else 0

    @property
    def objective(self) -> float | None:
        """The objective after the last fold-epoch; None before the first, or if undefined."""
        return self.reports[-1].objective if self.reports else None

    @property
    def pooled(self) -> float | None:
        """The objective of the out-of-fold scores of all folds together.

        The worker reports it with the last fold-epoch if the study has several numbers of folds,
        because means over different numbers of folds cannot be compared. None otherwise.
        """
        return self.reports[-1].pooled if self.reports else None

    @property
    def final_objective(self) -> float:
        """The objective that ranks a finished trial: the pooled one if there is one."""
        value = self.objective if self.pooled is None else self.pooled
        if value is None:
            raise TypeError(f"trial {self.id} has no objective")
        return value

    def rung_key(self, epoch: int) -> RungKey:
        """The rung at which the trial is compared after `epoch` fold-epochs."""
        return RungKey(self.folds, epoch, int(self.hparams.get("epochs", 0)))

    def fold_ends(self, epochs: int) -> list[FoldReport]:
        """The last report of each finished fold, for `epochs` epochs per fold."""
        return [report for report in self.reports if report.epoch % epochs == 0]

    @property
    def seconds(self) -> float:
        """The training time."""
        return float(sum(report.seconds for report in self.reports))

    @property
    def costs(self) -> TrialCosts:
        """Its costs beside the training time."""
        fixed = fixed_costs(self.reports)
        return replace(
            running_costs(self.reports),
            effective_batch_size=fixed.effective_batch_size,
            parameters=fixed.parameters,
            flops=fixed.flops,
        )


class Spent:
    """What a study has spent so far.

    Attributes:
        fold_epochs: Fold-epochs of the searched trials.
        device_s: Training time of the searched trials and the benchmark, in seconds.
        clock_s: Time in which a launcher ran, in seconds.
        dollars: Price of the machines, if the space states it.
    """

    def __init__(self) -> None:
        self.fold_epochs = 0
        self.device_s = 0.0
        self.clock_s = 0.0
        self.dollars = 0.0
        self._last_time: float | None = None

    def apply(self, event: Event) -> None:
        """Add the costs of the journal's next event."""
        if isinstance(event, StudyLaunched) or self._last_time is None:
            self._last_time = event.time
        self.clock_s += max(0.0, event.time - self._last_time)
        self._last_time = event.time
        if isinstance(event, FoldReport):
            self.fold_epochs += event.trial not in BASELINES
            self.device_s += event.seconds
            self.dollars += event.dollars or 0.0


class History:
    """The trials of a study and the values at its rungs, after each event of its journal.

    Attributes:
        trials: Every trial, by its name.
        rungs: The objectives at each rung.
        at_rungs: Every objective at a rung, in the order of the journal: trial, fold-epoch, value.
        selected: Name of the trial that was selected after the search, and whose refit or repeats
            follow or are trained; None before that, and while an extended search goes on.
        champion: Name of the champion; None before one is recorded.
        champion_decision: Its decision rule.
        with_encoder: Whether its model has a copy of a frozen encoder although the license of the
            weights is unknown; None as the space says.
        repeat_objectives: Its objective with each repeat seed that did not fail.
        repeat_failures: Why trainings with repeat seeds failed, by trial and seed.
        spent: What the study has spent.
        exclusions: The choices and their values with which no further trial starts.
        extended: The number of trials that a later launch planned; None without one.
        num_ended: Number of searched trials that ended, without those that were paused or filled
            an idle slot.
    """

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self.trials: dict[str, Trial] = {}
        self.rungs: dict[RungKey, Rung] = {}
        self.at_rungs: list[tuple[Trial, int, float]] = []
        self.selected: str | None = None
        self.champion: str | None = None
        self.champion_decision: ChampionDecision | None = None
        self.with_encoder: bool | None = None
        self.repeat_objectives: tuple[float, ...] = ()
        self.repeat_failures: dict[tuple[str, int], str] = {}
        self.spent = Spent()
        self.exclusions: tuple[tuple[str, Value], ...] = ()
        self.extended: int | None = None
        self.num_ended = 0
        self._searched: list[Trial] = []
        self._open: dict[str, Trial] = {}
        self._finished: list[Trial] = []
        # The best of the first so many finished trials, by folds and mode.
        self._best: dict[tuple[int | None, Mode], tuple[int, Trial | None]] = {}
        for event in events:
            self.apply(event)

    def apply(self, event: Event) -> None:
        """Update the state by the journal's next event.

        Raises:
            StudyError: If it contradicts the events before it.
        """
        self._reject_contradiction(event)
        self.spent.apply(event)
        self._follow_selection(event)
        match event:
            case TrialStarted():
                self._start(event)
            case FoldReport():
                self._report(event)
            case TrialPaused() | TrialPromoted():
                self._pause_or_continue(event)
            case TrialEnded():
                self._end(event)
            case ChampionSelected():
                self.champion, self.champion_decision = event.trial, event.decision
                self.repeat_objectives = event.repeat_objectives
                self.with_encoder = event.with_encoder
            case RepeatFailed() | RepeatTrained() | RefitTrained():
                self._apply_retraining(event)
            case ScoresReplaced():
                self.trials[event.trial].score_hashes[event.epoch] = event.scores
            case TrialsExtended():
                self.extended = event.trials
            case ValueExcluded():
                self.exclusions += ((event.hyperparameter, event.value),)
            case _:
                pass

    def _follow_selection(self, event: Event) -> None:
        match event:
            case TrialSelected() | ChampionSelected() | RefitTrained() | RepeatTrained():
                self.selected = event.trial
            case TrialStarted() | TrialPromoted() | FoldReport() | TrialsExtended():
                self.selected = None
            case _:
                pass

    def _apply_retraining(self, event: RepeatFailed | RepeatTrained | RefitTrained) -> None:
        match event:
            case RepeatFailed():
                self.repeat_failures[event.trial, event.seed] = event.failure
            case RepeatTrained():
                self.trials[event.trial].repeats[event.seed, event.fold] = event
            case RefitTrained():
                self.trials[event.trial].refit_hash = event.network

    def _reject_contradiction(self, event: Event) -> None:
        """Raise StudyError for an event that no launcher appends; a journal may be forged."""
        name = getattr(event, "trial", None)
        match event:
            case TrialStarted():
                is_valid = event.folds >= 1 and _has_valid_epochs(event.hparams)
            case FoldReport():
                is_valid = name in self.trials and event.epoch >= 1 and event.fold >= 0
            case TrialPaused():
                is_valid = name in self._open and self._is_at_rung(self._open[name])
            case TrialPromoted():
                is_valid = name in self._open and self._open[name].status == "paused"
            case TrialEnded():
                # A baseline may have no objective, such as a precision without predictions.
                is_valid = name in self._open and (
                    event.status != "finished"
                    or self._open[name].kind != "trial"
                    or self._open[name].objective is not None
                )
            case (
                TrialSelected()
                | ChampionSelected()
                | RepeatFailed()
                | RepeatTrained()
                | RefitTrained()
                | ScoresReplaced()
                | TrialWarning()
            ):
                is_valid = name in self.trials
            case _:
                is_valid = True
        if not is_valid:
            raise StudyError(
                f"event {event.number} ({type(event).__name__}) contradicts the events before it;"
                " restore the journal from a copy or start a new study"
            )

    def _is_at_rung(self, trial: Trial) -> bool:
        rung = self.rungs.get(trial.rung_key(trial.epoch))
        return trial.status == "running" and rung is not None and trial.id in rung.values

    def is_excluded(self, hparams: Hparams) -> bool:
        """Whether `hparams` have an excluded value."""
        return any(hparams.get(name) == value for name, value in self.exclusions)

    def planned(self, trials: int) -> int:
        """The planned number of trials of a study that was launched with `trials`."""
        return self.extended or trials

    def searched(self) -> list[Trial]:
        """The searched trials, in the order in which they started."""
        return self._searched

    def running(self) -> list[Trial]:
        """The trials of every kind that train, or continue as soon as a slot is free."""
        return [trial for trial in self._open.values() if trial.status == "running"]

    def paused(self) -> list[Trial]:
        """The trials that wait at a rung."""
        return [trial for trial in self._open.values() if trial.status == "paused"]

    def done(self) -> list[Trial]:
        """The searched trials that finished all their folds, in the order in which they did."""
        return self._finished

    def best(self, folds: int | None, mode: Mode) -> Trial | None:
        """The best finished trial; if `folds` is a number, of the trials with so many folds."""
        sign = objective_sign(mode)
        num_compared, best = self._best.get((folds, mode), (0, None))
        for trial in self._finished[num_compared:]:
            if folds in (None, trial.folds) and (
                best is None or sign * trial.final_objective > sign * best.final_objective
            ):
                best = trial
        self._best[folds, mode] = (len(self._finished), best)
        return best

    def is_promotable(self, trial: Trial, epoch: int, reduction_factor: int, mode: Mode) -> bool:
        """Whether `trial` continues from the rung at `epoch`, given the earlier values there."""
        return self.rungs[trial.rung_key(epoch)].is_promotable(trial.id, reduction_factor, mode)

    def _rung(self, trial: Trial) -> Rung:
        return self.rungs.setdefault(trial.rung_key(trial.epoch), Rung())

    def _start(self, event: TrialStarted) -> None:
        trial = Trial(
            event.trial,
            event.kind,
            event.hparams,
            event.seed,
            event.folds,
            started=event.time,
            origin=event.origin,
        )
        self.trials[trial.id] = self._open[trial.id] = trial
        if trial.kind == "trial":
            self._searched.append(trial)

    def _report(self, event: FoldReport) -> None:
        trial = self.trials[event.trial]
        trial.reports.append(event)
        if event.scores is not None:
            trial.score_hashes[event.epoch] = event.scores
        if event.rung and event.objective is not None:
            self._rung(trial).add(trial.id, event.objective)
            self.at_rungs.append((trial, event.epoch, event.objective))

    def _pause_or_continue(self, event: TrialPaused | TrialPromoted) -> None:
        trial = self.trials[event.trial]
        if isinstance(event, TrialPaused):
            trial.status, trial.in_idle_slot = "paused", False
            self._rung(trial).wait(trial.id)
        else:
            self._rung(trial).leave(trial.id)
            trial.status, trial.in_idle_slot = "running", event.in_idle_slot

    def _end(self, event: TrialEnded) -> None:
        trial = self._open.pop(event.trial)
        # A trial that is paused or in an idle slot would not have trained on if it had not ended:
        # it is no trial without improvement for `budget.no_improvement`.
        is_counted = trial.status != "paused" and not trial.in_idle_slot
        if trial.status == "paused":
            self._rung(trial).leave(trial.id)
        trial.status, trial.reason, trial.ended = event.status, event.reason, event.time
        if trial.kind != "trial":
            return
        trial.end_rank = self.num_ended - (not is_counted)
        self.num_ended += is_counted
        if trial.status == "finished":
            self._finished.append(trial)


def num_folds(space: Space, hparams: Hparams) -> int:
    """Return the number of folds of a trial with these hyperparameters."""
    return int(hparams.get("folds", min(map(int, space.values_of("folds")))))


def total_fold_epochs(space: Space, trial: Trial) -> int:
    """Return the fold-epochs after which a trial is finished: the epochs of all its folds."""
    return trial.folds * trial_epochs(space, trial.hparams)


def training_progress(space: Space, trial: Trial) -> float:
    """What orders trials by how far they are trained.

    It is the fraction of the fold-epochs of the trial if `epochs` is a hyperparameter of the study,
    and the fold-epochs otherwise.
    """
    if space.hyperparameter("epochs") is None:
        return trial.epoch
    return trial.epoch / total_fold_epochs(space, trial)


def leaderboard(history: History, space: Space) -> list[Trial]:
    """Rank every trial that has a report or has failed: finished trials first, best first.

    A trial that was stopped after a larger part of its fold-epochs stands before the others; equal
    trials keep the order in which they started.
    """
    order = {"finished": 0, "running": 1, "paused": 1, "stopped": 2, "failed": 3}

    def rank(trial: Trial) -> tuple[int, float, float]:
        depth = -training_progress(space, trial) if trial.status != "finished" else 0.0
        return order[trial.status], depth, _loss(trial, space.mode)

    trials = (
        trial for trial in history.trials.values() if trial.reports or trial.status == "failed"
    )
    return sorted(trials, key=rank)


def finished(history: History, mode: str) -> list[Trial]:
    """The searched trials that finished all their folds, best first."""
    trials = (
        trial
        for trial in history.trials.values()
        if trial.kind == "trial" and trial.status == "finished" and trial.reports
    )
    return sorted(trials, key=lambda trial: _loss(trial, mode))


def _loss(trial: Trial, mode: str) -> float:
    """The objective that ranks a trial, of which less is better; infinity without one."""
    return math.inf if trial.objective is None else -objective_sign(mode) * trial.final_objective


def excluded_values(history: History) -> tuple[str, ...]:
    """The values that the user excluded, each as NAME=VALUE."""
    return tuple(f"{name}={value_text(value)}" for name, value in history.exclusions)


def value_text(value: Value) -> str:
    """A value as the command line and the space file write it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _has_valid_epochs(hparams: Hparams) -> bool:
    epochs = hparams.get("epochs", 1)
    return type(epochs) is int and epochs >= 1
