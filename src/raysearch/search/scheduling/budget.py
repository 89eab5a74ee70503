"""Decides when a study's budget is exhausted, from its space and its history."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from raysearch.config.hyperparameter_spec import Hparams
from raysearch.config.report_interval import (
    max_reports,
    min_reports,
    report_interval,
    trial_epochs,
)
from raysearch.config.space import Space
from raysearch.metrics.objective import objective_sign, reaches
from raysearch.search.journal.events import FoldReport
from raysearch.search.journal.history import History, Trial, total_fold_epochs

HOUR_S = 3600.0
# The only limit of which trials that train side by side spend no more than one of them.
CLOCK = "hours"
# The only limit of which it is known before the first report what a report spends.
FOLD_EPOCHS = "fold-epochs"


def exhausted(space: Space, history: History) -> str | None:
    """Why the study with `history` ends now; None while it may continue."""
    budget = space.budget
    for name, limit, spent in _limits(space, history):
        if spent >= limit:
            return f"budget: {name} {limit:g}"
    if budget.target is None and budget.no_improvement is None:
        return None
    best = history.best(None, space.mode)
    if best is None:
        return None
    if budget.target is not None and reaches(best.final_objective, budget.target, space.mode):
        return f"target {budget.target:g} reached"
    if budget.no_improvement is not None:
        num_ended_since_best = history.num_ended - 1 - best.end_rank
        if num_ended_since_best >= budget.no_improvement:
            return f"no improvement in {budget.no_improvement} trials"
    return None


def last_affordable_trial(
    space: Space, history: History, reporting: Trial | None = None
) -> Trial | None:
    """The only trial that continues, if the budget suffices for no more than to finish it.

    This applies only until a trial has finished, so that a study ends with a champion. `reporting`
    is the trial that has just reported. It is compared without that report: two trials that
    overtake each other with every report would otherwise both continue until the budget is spent.

    If trials differ in their numbers of reports, those that the budget cannot finish are left out.
    If only the clock limits the study and the trial trains, the other slots are not left idle.
    """
    limits = list(_limits(space, history))
    if history.done() or not limits:
        return None
    unfinished = _unfinished(history)
    if _has_several_lengths(space):
        affordable = [
            trial for trial in unfinished if _can_finish(space, history, trial, reporting)
        ]
        if not affordable and _can_start_shortest(space, history, reporting):
            return None
        unfinished = affordable or unfinished
    leader = _leader(space, unfinished, reporting)
    if leader is None:
        return None
    num_missing = missing_reports(space, leader)
    num_rivals = sum(
        trial.status == "running" and trial is not leader for trial in history.running()
    )
    trains_already = leader.status == "running" and leader is not reporting
    for name, limit, spent in limits:
        if name == CLOCK and trains_already:
            continue
        if name != FOLD_EPOCHS and not leader.reports:
            continue
        if limit - spent <= (num_missing + num_rivals) * _cost(name, spent, history):
            return leader
    return None


def _leader(space: Space, unfinished: Sequence[Trial], reporting: Trial | None) -> Trial | None:
    """The trial of which the largest fraction is done; of equals, that with the best objective.

    Without a report before the newest one, it is the trial that reports, or that started first.
    """
    sign = objective_sign(space.mode)
    progress: dict[str, tuple[float, float]] = {}
    for trial in unfinished:
        report = _last_report(trial, without_newest=trial is reporting)
        if report is not None and report.objective is not None:
            num_fold_epochs = total_fold_epochs(space, trial)
            progress[trial.id] = (report.epoch / num_fold_epochs, sign * report.objective)
    compared = [trial for trial in unfinished if trial.id in progress]
    if compared:
        return max(compared, key=lambda trial: progress[trial.id])
    return reporting if reporting in unfinished else next(iter(unfinished), None)


def cannot_afford(space: Space, history: History, trial: Trial) -> bool:
    """Whether the budget cannot finish the reporting `trial`, but can finish a shorter one.

    This applies only until a trial has finished, and if trials differ in their numbers of reports.
    """
    if history.done() or not _has_several_lengths(space) or _can_finish(space, history, trial):
        return False
    return can_finish_another(space, history, trial)


def can_finish_another(space: Space, history: History, trial: Trial) -> bool:
    """Whether a trial other than the reporting `trial` can still finish.

    If all trials have equally many reports, the budget does not count: it is left to the trial of
    which the largest part is done.
    """
    others = [other for other in _unfinished(history) if other is not trial]
    if not _has_several_lengths(space):
        return bool(others) or _may_start(space, history)
    return _can_start_shortest(space, history, trial) or any(
        _can_finish(space, history, other, trial) for other in others
    )


def prefers_shorter(space: Space, history: History, hparams: Hparams, folds: int) -> bool:
    """Whether the budget suffices to start and finish a shorter trial than that with `hparams`.

    This applies only until a trial has finished, and if trials differ in their numbers of reports.
    """
    if history.done() or not _has_several_lengths(space):
        return False
    epochs = trial_epochs(space, hparams)
    num_reports = folds * epochs // report_interval(hparams, epochs)
    return not _suffices(space, history, num_reports) and _can_start_shortest(space, history, None)


def _has_several_lengths(space: Space) -> bool:
    """Whether the trials differ in their numbers of reports."""
    return min_reports(space) < max_reports(space)


def _unfinished(history: History) -> list[Trial]:
    """The searched trials that train or are paused."""
    trials = (*history.running(), *history.paused())
    return [trial for trial in trials if trial.kind == "trial"]


def _can_finish(
    space: Space, history: History, trial: Trial, reporting: Trial | None = None
) -> bool:
    """Whether the budget suffices to finish `trial`, if `reporting` does not continue."""
    return _suffices(space, history, missing_reports(space, trial), trial, reporting)


def _can_start_shortest(space: Space, history: History, reporting: Trial | None) -> bool:
    """Whether a trial with the fewest reports can start and finish, in place of `reporting`."""
    return _may_start(space, history) and _suffices(space, history, min_reports(space), reporting)


def _may_start(space: Space, history: History) -> bool:
    return len(history.searched()) < history.planned(space.trials)


def _suffices(space: Space, history: History, num_reports: int, *apart: Trial | None) -> bool:
    """Whether the budget of fold-epochs suffices for `num_reports`.

    Each training trial that is not among `apart` reports once more before it can be stopped.
    """
    limit = space.budget.fold_epochs
    num_others = sum(
        trial.kind == "trial" and all(trial is not other for other in apart)
        for trial in history.running()
    )
    return limit is None or num_reports + num_others <= limit - history.spent.fold_epochs


def affords_beside_others(space: Space, history: History, trial: Trial) -> bool:
    """Whether the budget suffices to finish the training trials, and the paused `trial` as well."""
    unfinished = [trial, *(other for other in history.running() if other.kind == "trial")]
    num_missing = sum(missing_reports(space, other) for other in unfinished)
    return all(
        name == CLOCK or limit - spent >= num_missing * _cost(name, spent, history)
        for name, limit, spent in _limits(space, history)
    )


def fold_reports(space: Space, trial: Trial) -> int:
    """The reports of a trial in a fold."""
    epochs = trial_epochs(space, trial.hparams)
    return epochs // report_interval(trial.hparams, epochs)


def missing_reports(space: Space, trial: Trial) -> int:
    """The reports until a trial is finished: the fold-epochs, or the folds of a frozen network."""
    epochs = trial_epochs(space, trial.hparams)
    return -(-(trial.folds * epochs - trial.epoch) // report_interval(trial.hparams, epochs))


def _cost(name: str, spent: float, history: History) -> float:
    """What a fold-epoch spends of the limit `name`, of which `spent` is spent."""
    return 1.0 if name == FOLD_EPOCHS else spent / max(1, history.spent.fold_epochs)


def fraction_spent(space: Space, history: History) -> float:
    """The largest fraction that is spent of a limit of the budget; 0 without a limit."""
    return max((spent / limit for _name, limit, spent in _limits(space, history)), default=0.0)


def _last_report(trial: Trial, without_newest: bool) -> FoldReport | None:
    reports = trial.reports[:-1] if without_newest else trial.reports
    return reports[-1] if reports else None


def _limits(space: Space, history: History) -> Iterator[tuple[str, float, float]]:
    """Each limit of the budget: its name, its value, and what is spent of it."""
    budget, spent = space.budget, history.spent
    if budget.fold_epochs is not None:
        yield FOLD_EPOCHS, budget.fold_epochs, spent.fold_epochs
    if budget.hours is not None:
        yield CLOCK, budget.hours, spent.clock_s / HOUR_S
    if budget.gpu_hours is not None:
        yield "GPU-hours", budget.gpu_hours, spent.device_s * space.resources.gpus / HOUR_S
    if budget.dollars is not None:
        yield "dollars", budget.dollars, spent.dollars
