"""A running study: what to train next, what a report leads to, and the journal of both."""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

from raysearch.config.hyperparameter_spec import Hparams, Value
from raysearch.data.child_processes import launcher_pid
from raysearch.errors import StudyError, UserError
from raysearch.search.journal.events import (
    ChampionDecision,
    ChampionSelected,
    EndStatus,
    Event,
    FoldReport,
    RefitTrained,
    RepeatFailed,
    RepeatTrained,
    ScoresReplaced,
    StudyLaunched,
    TrialEnded,
    TrialKind,
    TrialSelected,
    TrialsExtended,
    TrialWarning,
    ValueExcluded,
)
from raysearch.search.journal.history import Trial
from raysearch.search.journal.journal import always_owner
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.scheduling.policy import SearchPolicy, trial_ended, trial_started
from raysearch.search.study.earlier_studies import read_memory
from raysearch.search.study.plan import Plan, Splits
from raysearch.search.study.stored_study import open_journal, write_splits

EventListener = Callable[[Event], None]
# The study halts after so many consecutive reports that a worker was unavailable.
MAX_UNAVAILABLE = 3


class Study:
    """The only writer of a study's journal; its launcher holds `launcher_lock` meanwhile.

    An event is first appended to the journal, then passed to the search policy and the listeners,
    so that each of these can be rebuilt from the journal.

    Args:
        folder: Folder of a study that has a plan.
        plan: That plan.
        check_owner: Called before each append; raises if another launcher owns the study.

    Attributes:
        lock: Held while the state changes.
        halt_reason: Why no trial is started or continued any more; None while the study runs.
    """

    def __init__(
        self, folder: StudyFolder, plan: Plan, check_owner: Callable[[], None] = always_owner
    ) -> None:
        self.folder, self.plan = folder, plan
        self.journal = open_journal(folder, plan.identity, check_owner)
        self.policy = SearchPolicy(
            plan.space, self.journal.events, memory=read_memory(folder, plan)
        )
        self.history = self.policy.history
        self.lock = threading.RLock()
        self.halt_reason: str | None = None
        self._listeners: list[EventListener] = []
        self._num_unavailable = 0
        self._best_id = self._best()
        self._queue = deque(trial for trial in self.history.running() if trial.kind != "majority")

    def add_listener(self, listener: EventListener) -> None:
        """Call `listener` with each further event."""
        self._listeners.append(listener)

    def begin(self, trials: int | None = None) -> None:
        """Record the launch, and make the decisions that an earlier launcher left pending.

        Args:
            trials: The planned number of trials from now on, if it is larger than before.
        """
        self._record(StudyLaunched(socket.gethostname(), launcher_pid()))
        if trials is not None and trials > self.policy.num_trials:
            self._record(TrialsExtended(trials))
        self._remove_unused_files()
        self._end_excluded()
        for trial in self.history.running():
            if trial.reports and trial.status == "running":
                self._apply_decision(trial)
        self._queue = deque(trial for trial in self._queue if trial.status == "running")

    def next_trial(self) -> Trial | None:
        """The trial to train next: an interrupted one, the benchmark, or the policy's; or None."""
        with self.lock:
            if self.halt_reason is not None:
                return None
            while self._queue:
                trial = self._queue.popleft()
                if trial.status == "running":  # the user has not stopped it
                    return trial
            folds = self.plan.splits[0].folds
            if not any(trial.kind == "benchmark" for trial in self.history.trials.values()):
                hparams: Hparams = {"architecture": "benchmark", "folds": folds}
                return self.start("benchmark", "benchmark", hparams)
            event = self.policy.next()
            if event is None:
                return None
            self._record(event)
            return self.history.trials[event.trial]

    def start(self, trial: str, kind: TrialKind, hparams: Hparams) -> Trial:
        """Record the new trial `trial`, and return it."""
        self._record(trial_started(self.plan.space, trial, kind, hparams))
        return self.history.trials[trial]

    def report(self, report: FoldReport) -> bool:
        """Record a report of a trial, and return whether the trial continues.

        A repeated report, as after a restart from a checkpoint, changes nothing but the file of
        scores, if the worker had to write that again.
        """
        with self.lock:
            trial = self.history.trials[report.trial]
            if trial.status != "running" or self.halt_reason is not None:
                return False
            self._num_unavailable = 0
            if report.epoch > trial.epoch:
                self._record(replace(report, rung=self.policy.is_rung(trial, report.epoch)))
                self._apply_decision(trial)
            elif report.scores and report.scores != trial.score_hashes.get(report.epoch):
                self._record(ScoresReplaced(trial.id, report.epoch, report.scores))
            return trial.status == "running"

    def fail(self, trial_id: str, reason: str) -> None:
        """End a trial that cannot continue, with the reason in a few words."""
        self._end_running(trial_id, "failed", reason)

    def stop(self, trial_id: str, reason: str) -> None:
        """End a trial whose network is rejected, with the reason in a few words."""
        self._end_running(trial_id, "stopped", reason)

    def _end_running(self, trial_id: str, status: EndStatus, reason: str) -> None:
        with self.lock:
            trial = self.history.trials[trial_id]
            if trial.status == "running" and (status == "failed" or trial.kind == "trial"):
                self._end(trial_ended(trial, status, reason))

    def stop_unfinished(self, trial_id: str, reason: str) -> None:
        """End a searched trial that trains or is paused, as the user requests."""
        with self.lock:
            trial = self.history.trials[trial_id]
            if trial.kind == "trial" and trial.status in ("running", "paused"):
                self._end(trial_ended(trial, "stopped", reason))

    def exclude(self, hyperparameter: str, value: Value) -> None:
        """Start no further trial with a value of a choice; end the unfinished trials with it."""
        with self.lock:
            if (hyperparameter, value) not in self.history.exclusions:
                self._record(ValueExcluded(hyperparameter, value))
            self._end_excluded()

    def _end_excluded(self) -> None:
        for trial in (*self.history.running(), *self.history.paused()):
            for name, value in self.history.exclusions:
                if trial.hparams.get(name) == value:
                    self.stop_unfinished(trial.id, f"{name}={value} excluded by the user")

    def requeue(self, trial_id: str, reason: str | None = None) -> None:
        """Let an unfinished trial continue later, from its checkpoint.

        Args:
            trial_id: Name of the trial.
            reason: Why its worker was unavailable, if that caused it. After `MAX_UNAVAILABLE` such
                calls without a report between them, the study halts for this reason, and its
                unfinished trials keep their state for a resume.
        """
        with self.lock:
            trial = self.history.trials[trial_id]
            if trial.status == "running" and trial not in self._queue:
                self._queue.append(trial)
            if reason is not None:
                self._num_unavailable += 1
                if self._num_unavailable >= MAX_UNAVAILABLE:
                    self.halt_reason = reason

    def warn(self, trial_id: str, text: str) -> None:
        """Record what the user should know about a trial that continues."""
        self._record(TrialWarning(trial_id, text))

    def record_repeat_failure(self, trial: Trial, seed: int, failure: str) -> None:
        """Record that training `trial` with a repeat `seed` failed; it is not tried again."""
        self._record(RepeatFailed(trial.id, seed, failure))

    def record_repeat(self, trial: Trial, repeat: RepeatTrained) -> None:
        """Record the files of a fold of `trial` that was trained with a repeat seed."""
        if trial.repeats.get((repeat.seed, repeat.fold)) != repeat:
            self._record(repeat)

    def record_refit(self, trial: Trial, network: str) -> None:
        """Record the SHA-256 of the file of the refitted network of `trial`."""
        if trial.refit_hash != network:
            self._record(RefitTrained(trial.id, network))

    def record_selected(self, trial: Trial) -> None:
        """Record that `trial` is selected: what is trained now is of this trial."""
        if self.history.selected != trial.id:
            self._record(TrialSelected(trial.id))

    def record_champion(
        self,
        trial: Trial,
        decision: ChampionDecision,
        repeat_objectives: Sequence[float] = (),
        with_encoder: bool | None = None,
    ) -> None:
        """Record that `trial` is the champion, with its decision rule.

        Args:
            trial: The trial.
            decision: Its decision rule.
            repeat_objectives: Its objectives with the repeat seeds.
            with_encoder: Whether its model has a copy of a frozen encoder although the license of
                the weights is unknown; None as the space says.
        """
        self._record(ChampionSelected(trial.id, decision, tuple(repeat_objectives), with_encoder))

    def finalize(self) -> None:
        """End the paused trials, if no trial is running and none of them would be promoted."""
        with self.lock:
            is_over = not self.history.running() and self.policy.next() is None
            if self.halt_reason is None and is_over:
                for trial in self.history.paused():
                    self._end(self.policy.end_unfinished(trial))

    def ended(self) -> bool:
        """Whether every trial has ended, and no other would start."""
        with self.lock:
            unfinished = (*self.history.running(), *self.history.paused())
            return not unfinished and self.policy.next() is None

    def total_fold_epochs(self, trial: Trial) -> int:
        """The fold-epochs after which `trial` is finished."""
        return self.policy.total_fold_epochs(trial)

    def _apply_decision(self, trial: Trial) -> None:
        """Record what follows from the last report of `trial`, for it and for the study."""
        decision = self.policy.decide(trial)
        if isinstance(decision, TrialEnded):
            self._end(decision)
        elif decision is not None:
            self._record(decision)
        if self.policy.exhausted() is not None:
            for unfinished in (*self.history.running(), *self.history.paused()):
                self._end(self.policy.end_unfinished(unfinished))

    def _end(self, event: TrialEnded) -> None:
        self._record(event)
        best_id = self._best()
        for trial in {event.trial, self._best_id or event.trial} - {best_id}:
            self.folder.remove(self.folder.checkpoint(trial))
        self._best_id = best_id

    def _best(self) -> str | None:
        """Name of the best finished trial, whose checkpoint is retained."""
        best = self.history.best(None, self.plan.space.mode)
        return best.id if best else None

    def _remove_unused_files(self) -> None:
        """Remove the files that a killed launcher or worker did not remove."""
        folder = self.folder
        folder.remove_partial_files()
        unfinished = (*self.history.running(), *self.history.paused())
        used = {f"{trial}.pt" for trial in (*(trial.id for trial in unfinished), self._best())}
        for name in folder.names(folder.CHECKPOINTS):
            if name not in used:
                folder.remove(f"{folder.CHECKPOINTS}/{name}")

    def _record(self, event: Event) -> None:
        with self.lock:
            try:
                recorded = self.journal.append(event)
            except OSError as error:
                journal = self.folder.path(self.folder.JOURNAL)
                self.halt_reason = f"{journal}: cannot be written ({error.strerror or error})"
                raise
            except UserError as error:  # another launcher owns it, or the store is unreachable
                self.halt_reason = str(error)
                raise
            for numbered in recorded:
                self.policy.apply(numbered)
                for listener in self._listeners:
                    listener(numbered)


def create_study(
    folder: StudyFolder,
    plan: Plan,
    splits: Splits,
    check_owner: Callable[[], None] = always_owner,
    memory: bytes = b"",
) -> Study:
    """Create the study of `plan` in `folder`, with its folds `splits`.

    `memory` is the content of the file with the trials of earlier studies.

    Raises:
        StudyError: If there is a study already.
    """
    if folder.exists(folder.PLAN):
        raise StudyError(
            f"study {folder.name!r} exists already; resume it with --resume, or choose another"
            " --name"
        )
    write_splits(folder, splits)
    if memory:
        folder.write(folder.MEMORY, memory)
    folder.write(folder.PLAN, plan.dump())
    return Study(folder, plan, check_owner)
