"""The plan of a study as tables, and its search in words: sampler, stopping rules and limits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from statistics import median
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from raysearch.config.constraints import holds
from raysearch.config.names import NO_MEMORY, OWN_STUDIES
from raysearch.config.space import RANGES, Hyperparameter, Space
from raysearch.config.space_points import completed_point
from raysearch.models import is_bag_shape
from raysearch.search.study.plan import NOTHING, MemorySource, Plan

if TYPE_CHECKING:
    from raysearch.cli.time_text import PlanTimes

SAMPLERS = {
    "forest": "a random forest over the trials so far",
    "tpe": "a tree-structured Parzen estimator",
    "gp": "a Gaussian process",
    "qmc": "a quasi-Monte Carlo sequence",
    "random": "independent random samples",
    "grid": "every combination of values, in turn",
}
RULES = {
    "forest": "a model of the learning curves selects the trial that trains next",
    "promotion": "a trial pauses at a rung until it is among the best 1/{factor} there",
    "asha": "a trial stops at a rung unless it is among the best 1/{factor} there so far",
    "none": "every trial trains to its end",
}
BUDGET = {
    "hours": "{:g} hours",
    "gpu_hours": "{:g} GPU-hours",
    "dollars": "{:,.2f} dollars",
    "fold_epochs": "{:,} fold-epochs",
    "no_improvement": "{:,} trials in a row without improvement",
    "target": "{:g} reached",
}
# A table lists at most so many folds; leave-one-out has as many as patients.
MAX_FOLDS = 7
# So many of the earlier studies that a search does not learn from are listed.
MAX_OMITTED = 10
# What a table shows of more folds.
FOLD_SUMMARIES: Mapping[str, Callable[[Sequence[float]], float]] = {
    "lowest": min,
    "median": median,
    "highest": max,
}


def plan_tables(
    plan: Plan, expected_fold_epochs: int, times: PlanTimes | None = None, machines: str = ""
) -> list[Table]:
    """Return the tables of `--dry-run`: the plan, hyperparameters, times, each split scheme.

    `machines` says in words which machines the study uses.
    """
    title = f"Plan of {plan.name}"
    settings = Table(title=title, title_justify="left", show_header=False)
    rows = _setting_rows(plan, expected_fold_epochs) | {"machines": machines}
    time_tables = []
    if times is not None:
        # numpy takes a moment to import, and other commands use this module without times.
        from raysearch.cli.time_text import time_rows, time_table

        rows |= time_rows(times, plan.space)
        time_tables = [time_table(times)] if times.epoch_seconds else []
    for name, text in rows.items():
        if text:
            settings.add_row(name, escape(text))
    for file in plan.weights:
        text = f"{file.weights} of {file.architecture}, SHA-256 {file.sha256[:12]}"
        settings.add_row("weights", escape(text))
    for warning in plan.warnings:
        settings.add_row("[yellow]warning[/]", escape(warning))
    hparams = Table(title=hparams_title(plan.space), title_justify="left", show_header=False)
    for row in hparam_rows(plan.space):
        hparams.add_row(*map(escape, row))
    return [
        settings,
        hparams,
        *time_tables,
        *(_split_table(plan, split.folds) for split in plan.splits),
    ]


def _setting_rows(plan: Plan, expected_fold_epochs: int) -> dict[str, str]:
    """Return the settings of a plan as text by their titles; empty if the plan has none."""
    space, resources = plan.space, plan.space.resources
    class_counts = zip(plan.class_names, plan.class_counts, strict=True)
    counts = ", ".join(f"{count:,} {name}" for name, count in class_counts)
    size = "x".join(map(str, plan.shape))
    if is_bag_shape(plan.shape):
        size = f"{plan.shape[0]:,} patches (median), {plan.shape[1]:,} features each"
    held_out = f"{len(plan.view.held_out):,} {plan.view.by}s, which no trial sees"
    auxiliary = (f"{shards.data}: {shards.rows:,} patches" for shards in plan.auxiliary)
    precision = "selected by a few steps of each architecture before the first trial"
    for kind, settings in plan.precision_settings.items():
        formats = (
            f"{name}: {setting.precision} {setting.memory_format}"
            for name, setting in settings.items()
        )
        precision = f"{kind}: {'; '.join(formats)}"
    return {
        "data": f"{plan.data} ({plan.fingerprint[:12]})",
        plan.unit: f"{sum(plan.class_counts):,} of {size}: {counts}",
        "held out": held_out if plan.view.held_out else "none",
        "auxiliary": ", ".join(auxiliary),
        "objective": f"{space.metric}, {space.mode}, mean over the folds",
        "trials": f"{space.trials}, beside the benchmark network and the class-prior baseline",
        "epochs": f"{epochs_text(space)} per fold",
        "seed": str(space.seed),
        "resources": f"{resources.cpus:g} CPUs, {resources.gpus:g} GPUs per trial",
        **code_rows(plan),
        **search_rows(plan),
        "cost": f"about {expected_fold_epochs:,} fold-epochs, at most {plan.max_fold_epochs:,}",
        "repeats": repeats_text(plan),
        "precision": precision,
    }


def code_rows(plan: Plan) -> dict[str, str]:
    """Return the row of the code of the user's; nothing if there is none."""
    code = plan.code
    if not code.import_paths:
        return {}
    files = [f"{file.path} ({file.sha256[:12]})" for file in code.files]
    return {"code": f"{', '.join(code.import_paths)} of {', '.join([*files, *code.distributions])}"}


def _split_table(plan: Plan, folds: int) -> Table:
    split = plan.split(folds)
    rungs = ", ".join(map(str, split.rungs)) or "none"
    title = f"{folds} folds ({split.hash[:12]}), rungs after fold-epoch {rungs}"
    title += largest_epochs_text(plan.space)
    table = Table("fold", "patients", plan.unit, title=title, title_justify="left")
    if folds > MAX_FOLDS:
        for name, summary in FOLD_SUMMARIES.items():
            cells = (f"{summary(counts):,.15g}" for counts in (split.patients, split.patches))
            table.add_row(name, *cells)
        return table
    for fold in range(folds):
        table.add_row(str(fold), f"{split.patients[fold]:,}", f"{split.patches[fold]:,}")
    return table


def epochs_text(space: Space) -> str:
    """Return the numbers of epochs of a fold: the value, the choices, or the range."""
    hparam = space.hyperparameter("epochs")
    if hparam is None:
        return str(space.epochs)
    if hparam.kind in RANGES:
        return " to ".join(map(str, hparam.values))
    return ", ".join(map(str, hparam.values))


def largest_epochs_text(space: Space) -> str:
    """Return which trials have the rungs of the plan, if they differ in their epochs."""
    return f" (of {space.epochs} epochs a fold)" if len(set(space.epoch_values)) > 1 else ""


def search_rows(plan: Plan) -> dict[str, str]:
    """Return the search settings as text by their titles; empty if the space has none."""
    space = plan.space
    prices = ", ".join(f"{name} {price:.15g}" for name, price in space.resources.prices)
    limits = [f"{name} at most {value:,.15g}" for name, value in space.limits.by_metric().items()]
    return {
        "sampler": sampler_text(space),
        "points to evaluate": "\n".join(_point_lines(space)),
        "constraints": "\n".join(space.constraints),
        "limits": "; ".join(limits),
        "warm start": ", ".join(space.warm_start),
        "memory": memory_text(plan),
        "prior": "\n".join(f"{prior.name} {prior}" for prior in space.prior),
        "stopping": stopping_text(plan),
        "budget": budget_text(space),
        "prices": f"{prices} dollars per hour" if prices else "",
    }


def memory_text(plan: Plan) -> str:
    """Return the earlier studies in words; empty if the study has no memory."""
    memory, space = plan.memory, plan.space
    if space.memory == NO_MEMORY:
        return ""
    if space.sampler.name != "forest":
        reason = f"not used: the sampler {space.sampler.name} has no memory, forest has"
        return "" if space.memory == OWN_STUDIES else reason
    if memory == NOTHING:
        return f"{space.memory}: no earlier study"
    lines = [_source_line(source) for source in memory.sources]
    lines = lines or ["no earlier study can be used"]
    shown = [f"not {each.name}: {each.reason}" for each in memory.omitted[:MAX_OMITTED]]
    num_more = len(memory.omitted) - len(shown)
    return "\n".join([*lines, *shown, *([f"and not {num_more:,} more"] if num_more else [])])


def _source_line(source: MemorySource) -> str:
    line = f"{source.name}: {source.num_trials:,} trials"
    return line + (f", on {source.num_shared:,} of the same patients" if source.num_shared else "")


def sampler_text(space: Space) -> str:
    """Return the sampler and its options in words."""
    name = space.sampler.name
    options = [
        f"{option} {str(value).lower()}"
        for option, value in asdict(space.sampler).items()
        if option != "name" and value is not None
    ]
    return "; ".join([f"{name}: {SAMPLERS[name]}", *([", ".join(options)] if options else [])])


def stopping_text(plan: Plan) -> str:
    """Return the stopping rules in words, with the rungs if all splits have the same."""
    stopping = plan.space.stopping
    text = f"{stopping.rule}: {RULES[stopping.rule].format(factor=stopping.reduction_factor)}"
    rungs_of_splits = {split.rungs for split in plan.splits}
    if stopping.rule != "none":
        epochs = ", ".join(map(str, min(rungs_of_splits))) or "none"
        is_same = len(rungs_of_splits) == 1
        rungs = f"rungs after fold-epochs {epochs}{largest_epochs_text(plan.space)}"
        text += f"; {rungs}" if is_same else "; the rungs are below"
    if stopping.patience:
        text += f"; {stopping.patience} epochs of a fold without improvement stop a trial"
    if stopping.paired_alpha:
        text += (
            f"; a paired test over folds with p below {stopping.paired_alpha:g} that a trial is"
            " worse than the best stops it"
        )
    return text


def budget_text(space: Space) -> str:
    """Return the limits of the whole study in words."""
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
        text += " (trials use no GPU, so GPU-hours have no effect)"
    return text


def repeats_text(plan: Plan) -> str:
    """Return the cost of the repeated cross-validations of the champion; empty without any."""
    space = plan.space
    if not space.repeats:
        return ""
    at_most = "at most " if len(plan.splits) > 1 else ""
    text = f"{space.repeats} of the champion's cross-validation, with new seeds:"
    text += f" {at_most}{plan.repeat_fold_epochs:,} fold-epochs beyond the budget"
    if space.champion == "refit":
        return text
    return f"{text}; the networks of the first are the champion"


def _point_lines(space: Space) -> Iterator[str]:
    if space.points_to_evaluate:
        yield f"{len(space.points_to_evaluate):,}, evaluated first:"
    for point in space.points_to_evaluate:
        text = " ".join(f"{name}={value}" for name, value in point)
        hparams = completed_point(space, point)
        violated = [
            constraint for constraint in space.constraints if not holds(constraint, hparams)
        ]
        yield f"{text}  (excluded by {violated[0]})" if violated else text


def hparams_title(space: Space) -> str:
    """Return the numbers of hyperparameters of each kind in words."""
    kinds = Counter(
        {"fixed": "fixed", "choice": "choices"}.get(hparam.kind, "ranges")
        for hparam in space.hparams
    )
    counts = ", ".join(
        f"{kinds[kind]} {kind.removesuffix('s') if kinds[kind] == 1 else kind}"
        for kind in ("choices", "ranges", "fixed")
        if kinds[kind]
    )
    num_conditional = sum(bool(hparam.when) for hparam in space.hparams)
    return f"Space: {counts}" + (f"; {num_conditional} conditional" if num_conditional else "")


def hparam_rows(space: Space) -> list[tuple[str, str, str, str]]:
    """Return the name, kind, values and conditions of each hyperparameter.

    A conditional hyperparameter follows, indented, the one that it depends on.
    """
    depths: dict[str, int] = {}
    parents: dict[str, str] = {}
    for hparam in space.hparams:
        conditions = [name for name, _values in hparam.when]
        depths[hparam.name] = max((depths[name] + 1 for name in conditions), default=0)
        if conditions:
            parents[hparam.name] = max(conditions, key=depths.__getitem__)

    def rows_below(parent: str | None) -> Iterator[tuple[str, str, str, str]]:
        for hparam in space.hparams:
            if parents.get(hparam.name) == parent:
                name = "  " * depths[hparam.name] + hparam.name
                yield name, hparam.kind, *_value_cells(hparam)
                yield from rows_below(hparam.name)

    return list(rows_below(None))


def _value_cells(hparam: Hyperparameter) -> tuple[str, str]:
    values = ", ".join(map(str, hparam.values))
    if hparam.kind in RANGES:
        values = f"{hparam.values[0]} to {hparam.values[1]}"
    conditions = [f"{name} is {' or '.join(map(str, allowed))}" for name, allowed in hparam.when]
    return values, f"if {' and '.join(conditions)}" if conditions else ""
