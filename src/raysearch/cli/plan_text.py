"""A plan's search in words: who proposes, when trials end, what limits it, and which hyperparameters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from raysearch.config.constraints import holds
from raysearch.config.points import completed
from raysearch.config.space import RANGES, Hyperparameter, Space
from raysearch.search.study.plan import Plan

SAMPLERS = {
    "forest": "a forest of trees over the trials so far",
    "tpe": "a tree of Parzen estimators",
    "gp": "a Gaussian process",
    "qmc": "a sequence that fills the space evenly",
    "random": "independent draws",
    "grid": "every combination of values, in turn",
}
RULES = {
    "forest": "a model of the learning curves picks which trial trains next",
    "promotion": "a trial waits at a rung until it is among the best 1/{reduction} there",
    "asha": "a trial ends at a rung unless it is among the best 1/{reduction} there so far",
    "none": "every trial runs to its end",
}
BUDGET = {
    "hours": "{:g} hours",
    "gpu_hours": "{:g} GPU-hours",
    "dollars": "{:,.2f} dollars",
    "fold_epochs": "{:,} fold-epochs",
    "no_improvement": "{:,} trials in a row that are no better",
    "target": "{:g} reached",
}


def search_rows(plan: Plan) -> dict[str, str]:
    """What the space says of the search, a row a subject; empty where it says nothing."""
    space = plan.space
    prices = ", ".join(f"{name} {price:.15g}" for name, price in space.resources.prices)
    ceilings = "; ".join(f"{one.metric} at most {one.most:,.15g}" for one in space.ceilings)
    return {
        "sampler": sampler_text(space),
        "points": "\n".join(_points(space)),
        "constraints": "\n".join(space.constraints),
        "ceilings": ceilings,
        "warm start": ", ".join(space.warm_start),
        "stopping": stopping_text(plan),
        "budget": budget_text(space),
        "prices": f"{prices} dollars an hour" if prices else "",
    }


def sampler_text(space: Space) -> str:
    """Who proposes, with its options."""
    options = [f"{name} {str(value).lower()}" for name, value in space.sampling.options]
    name = space.sampling.name
    return "; ".join([f"{name}: {SAMPLERS[name]}", *([", ".join(options)] if options else [])])


def stopping_text(plan: Plan) -> str:
    """When a trial ends or waits, with the rungs where every split has the same."""
    rule = plan.space.stopping
    text = f"{rule.rule}: {RULES[rule.rule].format(reduction=rule.reduction)}"
    ladders = {split.rungs for split in plan.splits}
    if rule.rule != "none":
        (rungs, *more) = ladders
        where = ", ".join(map(str, rungs)) or "none"
        text += "; the rungs are below" if more else f"; rungs after fold-epochs {where}"
    if rule.patience:
        text += f"; {rule.patience} epochs of a fold without improvement end a trial"
    if rule.paired:
        text += (
            f"; so does a test paired over the folds, p below {rule.paired:g}, that it is worse"
            " than the best"
            if rule.patience
            else f"; a test paired over the folds, p below {rule.paired:g}, that it is worse than"
            " the best ends a trial"
        )
    return text


def budget_text(space: Space) -> str:
    """What ends the study before its trials do."""
    limits = [
        text.format(getattr(space.budget, name))
        for name, text in BUDGET.items()
        if getattr(space.budget, name) is not None
    ]
    if space.budget.target is not None:
        limits[-1] = f"{space.metric} of {limits[-1]}"
    text = ", ".join(limits) or "no limit"
    text += ", whichever comes first" if len(limits) > 1 else ""
    if space.budget.gpu_hours is not None and not space.resources.gpus:
        text += " (trials take no GPU, so GPU-hours never end it)"
    return text


def fresh_text(plan: Plan) -> str:
    """What the champion's fresh seeds cost; empty without any."""
    space = plan.space
    if not space.repeats:
        return ""
    most = "at most " if len(plan.splits) > 1 else ""
    text = f"{space.repeats}, with which the champion is trained over its folds again:"
    text += f" {most}{plan.repeat_fold_epochs:,} fold-epochs, not of the budget"
    return text + ("; their first one's nets are the champion" if space.champion != "refit" else "")


def _points(space: Space) -> Iterator[str]:
    if space.points:
        yield f"{len(space.points):,}, tried first:"
    for point in space.points:
        text = " ".join(f"{name}={value}" for name, value in point)
        whole = completed(space, point)
        against = [one for one in space.constraints if not holds(one, whole)]
        yield f"{text}  (excluded by {against[0]})" if against else text


def hparams_title(space: Space) -> str:
    """How many hyperparameters of each kind there are."""
    kinds = Counter(
        {"fixed": "fixed", "choice": "choices"}.get(hyperparameter.kind, "ranges")
        for hyperparameter in space.hparams
    )
    counts = ", ".join(
        f"{kinds[kind]} {kind.removesuffix('s') if kinds[kind] == 1 else kind}"
        for kind in ("choices", "ranges", "fixed")
        if kinds[kind]
    )
    some = sum(bool(hyperparameter.when) for hyperparameter in space.hparams)
    return f"Space: {counts}" + (f"; {some} only under conditions" if some else "")


def hparam_rows(space: Space) -> list[tuple[str, str, str, str]]:
    """Each hyperparameter's name, kind, values and conditions, below and inside the hyperparameter it hangs on."""
    depth: dict[str, int] = {}
    parent: dict[str, str] = {}
    for hyperparameter in space.hparams:
        others = [name for name, _values in hyperparameter.when]
        depth[hyperparameter.name] = max((depth[name] + 1 for name in others), default=0)
        if others:
            parent[hyperparameter.name] = max(others, key=depth.__getitem__)

    def below(name: str | None) -> Iterator[tuple[str, str, str, str]]:
        for hyperparameter in space.hparams:
            if parent.get(hyperparameter.name) == name:
                yield (
                    "  " * depth[hyperparameter.name] + hyperparameter.name,
                    hyperparameter.kind,
                    *_cells(hyperparameter),
                )
                yield from below(hyperparameter.name)

    return list(below(None))


def _cells(hyperparameter: Hyperparameter) -> tuple[str, str]:
    values = ", ".join(map(str, hyperparameter.values))
    if hyperparameter.kind in RANGES:
        values = f"{hyperparameter.values[0]} to {hyperparameter.values[1]}"
    conditions = [f"{name} is {' or '.join(map(str, some))}" for name, some in hyperparameter.when]
    return values, f"where {' and '.join(conditions)}" if conditions else ""
