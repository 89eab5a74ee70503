"""When a study has had enough: pure functions of its space and of what it has spent."""

from __future__ import annotations

from collections.abc import Iterator

from raysearch.config.space import Space
from raysearch.search.journal.history import History, Trial

HOUR_S = 3600.0


def exhausted(space: Space, history: History) -> str | None:
    """Why the study `history` of `space` is to end now; None while it may go on."""
    budget = space.budget
    for name, limit, spent in _spent(space, history):
        if spent >= limit:
            return f"budget: {name} {limit:g}"
    if budget.target is None and budget.no_improvement is None:
        return None
    best = history.best(None, space.mode)
    if best is None:
        return None
    if budget.target is not None and _as_good(best.final_objective, budget.target, space.mode):
        return f"target {budget.target:g} reached"
    if budget.no_improvement is not None:
        later = history.ended - 1 - best.ended_as
        if later >= budget.no_improvement:
            return f"no improvement in {budget.no_improvement} trials"
    return None


def last_affordable_trial(
    space: Space, history: History, reporting: Trial | None = None
) -> Trial | None:
    """The one trial that may go on, where the budget leaves room for no more than to finish it.

    Only as long as none has finished: a study should end with a champion. `reporting` has just
    reported, and is judged by what it was before: two trials that overtake each other by every
    report would both go on until the budget is spent.
    """
    limits = list(_spent(space, history))
    if history.done() or not limits:
        return None
    open_trials = [one for one in (*history.running(), *history.paused()) if one.kind == "trial"]
    sign = 1.0 if space.mode == "max" else -1.0
    last = {
        one.id: report
        for one in open_trials
        for report in one.reports[: -1 if one is reporting else None][-1:]
        if report["objective"] is not None
    }
    leader = max(
        (one for one in open_trials if one.id in last),
        key=lambda one: (last[one.id]["epoch"] / one.folds, sign * last[one.id]["objective"]),
        default=reporting,
    )
    if leader is None:
        return None
    need = leader.folds * space.epochs - leader.epoch
    others = sum(one.status == "running" and one is not leader for one in history.running())
    for name, limit, spent in limits:
        a_report = 1.0 if name == "fold-epochs" else spent / max(1, history.spent.fold_epochs)
        if limit - spent <= (need + others) * a_report:
            return leader
    return None


def fraction_spent(space: Space, history: History) -> float:
    """The share of the study's budget that is spent, of the limit closest to it; 0 without one."""
    return max((spent / limit for _name, limit, spent in _spent(space, history)), default=0.0)


def _spent(space: Space, history: History) -> Iterator[tuple[str, float, float]]:
    """Each limit that there is: its name, what it is, and what is spent of it."""
    budget, spent = space.budget, history.spent
    if budget.fold_epochs is not None:
        yield "fold-epochs", budget.fold_epochs, spent.fold_epochs
    if budget.hours is not None:
        yield "hours", budget.hours, spent.clock_s / HOUR_S
    if budget.gpu_hours is not None:
        yield "GPU-hours", budget.gpu_hours, spent.device_s * space.resources.gpus / HOUR_S
    if budget.dollars is not None:
        yield "dollars", budget.dollars, spent.dollars


def _as_good(value: float, target: float, mode: str) -> bool:
    return value >= target if mode == "max" else value <= target
