"""Checks of a space file across its keys: conditions, unused hyperparameters, constraints."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping
from itertools import product

from raysearch.config.adaptation_checks import adaptation_errors, all_conditions
from raysearch.config.bag_checks import bag_errors
from raysearch.config.constraints import constraint_errors, holds, truth
from raysearch.config.epoch_checks import epoch_errors
from raysearch.config.file_errors import FileError
from raysearch.config.hyperparameter_spec import SELECTORS, Value
from raysearch.config.names import FOLDS, FROZEN, OBJECTIVES
from raysearch.config.samplers import TpeSampler
from raysearch.config.space import RANGES, Hyperparameter, Space
from raysearch.config.space_geometry import sample_hparams
from raysearch.config.space_model import SpaceFile
from raysearch.config.space_points import completed_point

NUM_SAMPLES = 1000
MAX_TARGET = 1


def setting_errors(model: SpaceFile, space: Space, named: frozenset[str]) -> Iterator[FileError]:
    """Yield the errors of settings that contradict each other, or the hyperparameters `named`."""
    metric, mode = model.objective.metric, model.objective.mode
    if metric not in OBJECTIVES and mode is None:
        message = f"`mode: max` or `mode: min` is required with {metric}"
        yield FileError(("objective",), message)
    if mode not in (None, OBJECTIVES.get(metric, mode)):
        better = "higher" if OBJECTIVES[metric] == "max" else "lower"
        message = f"{mode!r} contradicts the metric: {metric} is better if {better}"
        yield FileError(("objective", "mode"), message)
    if space.validation != FOLDS and "folds" in named:
        message = f"`validation: {space.validation}` has its own folds; remove one of them"
        yield FileError(("space", "folds"), message)
    sampler = space.sampler
    if isinstance(sampler, TpeSampler) and sampler.group and not sampler.multivariate:
        yield FileError(("sampler", "group"), "it needs `multivariate: true`")
    if space.stopping.grace_period > min(space.epoch_values):
        message = f"{space.stopping.grace_period} is above the {min(space.epoch_values)} epochs"
        yield FileError(("stopping", "grace_period"), message)
    yield from epoch_errors(model, space)
    if space.budget.dollars is not None and not space.resources.prices:
        message = "no prices; give `resources: {prices: {g5.xlarge: 1.01}}`, in dollars per hour"
        yield FileError(("budget", "dollars"), message)
    if metric in OBJECTIVES and space.mode == "max" and (space.budget.target or 0) > MAX_TARGET:
        message = f"{space.budget.target:g} is never reached; the highest value is {MAX_TARGET}"
        yield FileError(("budget", "target"), message)
    if space.champion == "ensemble" and not space.repeats:
        yield FileError(("champion",), "an ensemble needs `repeats: 1` or more")


def space_errors(space: Space, named: frozenset[str], *, has_errors: bool) -> list[FileError]:
    """Return the errors of hyperparameters and constraints.

    The last checks need a space that is valid otherwise, and are left out if it `has_errors`.
    """
    errors = [*_condition_errors(space, named), *_staged_errors(space, named)]
    errors += _constraint_errors(space, named)
    if not has_errors and not errors:
        errors += [*_unused_errors(space), *bag_errors(space), *adaptation_errors(space)]
    if not has_errors and not errors:
        errors += _unsatisfiable_errors(space)
    return errors


def _condition_errors(space: Space, named: frozenset[str]) -> Iterator[FileError]:
    """Yield an error for each condition that never holds."""
    by_name = {hparam.name: hparam for hparam in space.hparams}
    for hparam in space.hparams:
        path = ("space", hparam.name, "when")
        for other, values in hparam.when:
            if other not in by_name:
                if other not in named:
                    yield FileError(path, f"{other} is not in the space")
            elif by_name[other].kind in ("uniform", "loguniform"):
                yield FileError(path, f"{other} is a range of numbers; conditions need a choice")
            else:
                possible = space.values_of(other)
                never = [value for value in values if value not in possible]
                yield from (FileError(path, f"{other} is never {value!r}") for value in never)
    if by_name.get("folds", Hyperparameter("folds", "fixed", ())).when:
        message = "`folds` is the same for the whole study; remove the condition"
        yield FileError(("space", "folds", "when"), message)


def _staged_errors(space: Space, named: frozenset[str]) -> Iterator[FileError]:
    """Yield the errors of hyperparameters that need other settings to have an effect."""
    if "auxiliary_weight" in named and not space.auxiliary:
        message = "`auxiliary_weight` has no effect without `auxiliary` shards; remove it"
        yield FileError(("space", "auxiliary_weight"), message)
    max_head_epochs = max(map(int, space.values_of("head_epochs")))
    min_epochs = min(space.epoch_values)
    if max_head_epochs >= min_epochs:
        yield FileError(
            ("space", "head_epochs"),
            f"{max_head_epochs} of {min_epochs} epochs leave none for all layers; give"
            f" {min_epochs - 1} or fewer",
        )
    if "head_learning_rate" in named and not max_head_epochs:
        message = "`head_learning_rate` has no effect without `head_epochs`; remove it"
        yield FileError(("space", "head_learning_rate"), message)
    yield from _head_layers_errors(space)


def _head_layers_errors(space: Space) -> Iterator[FileError]:
    """Yield an error if `head_hidden_layers` exists in trials whose head has no hidden layer.

    That is: of a searched one, in some trials; of a fixed one, in all of them. A head over frozen
    features is left out here: the classifier `mlp` always has a hidden layer.
    """
    hparam = space.hyperparameter("head_hidden_layers")
    if hparam is None:
        return
    bound = dict(all_conditions(space, hparam))
    if FROZEN in bound.get("adaptation", space.values_of("adaptation")):
        return
    units = sorted(map(int, bound.get("head_hidden_units", space.values_of("head_hidden_units"))))
    is_searched = len(set(hparam.values)) > 1
    if not units[-1] or (is_searched and not units[0]):
        yield FileError(
            ("space", "head_hidden_layers"),
            "`head_hidden_layers` has no effect with `head_hidden_units: 0`; remove it, or"
            f" {_positive_units_advice(space, [number for number in units if number])}",
        )


def _positive_units_advice(space: Space, units: list[int]) -> str:
    """Return how `head_hidden_units` becomes positive beside `head_hidden_layers`."""
    hparam = space.hyperparameter("head_hidden_units")
    if hparam is None or not units:
        return "give `head_hidden_units`, such as 64"
    if hparam.kind in RANGES:
        return "begin the range of `head_hidden_units` at 1"
    return f"add `when: {{head_hidden_units: [{', '.join(map(str, units))}]}}`"


def _unused_errors(space: Space) -> Iterator[FileError]:
    """Yield an error for each hyperparameter that exists in trials that do not read it."""
    for hparam in space.hparams:
        row = space.table[hparam.name]
        conditions = list(all_conditions(space, hparam))
        for components in _combinations(space, {row.part, *(name for name, _ in conditions)}):
            exists = all(
                name not in components or components[name] in allowed
                for name, allowed in conditions
            )
            if exists and not row.is_read_by(components):
                selector = row.part
                advice = _readers(space, hparam.name)
                yield FileError(
                    ("space", hparam.name),
                    f"`{hparam.name}` has no effect with `{selector}: {components[selector]}`;"
                    f" remove it{advice}",
                )
                break
        else:
            yield from _unmet_condition(space, hparam)


def _combinations(space: Space, names: Collection[str]) -> Iterator[dict[str, str]]:
    """Yield each combination of the selectors among `names`; the others have their first value."""
    values = [
        space.values_of(selector) if selector in names else space.values_of(selector)[:1]
        for selector in SELECTORS
    ]
    for combination in product(*values):
        yield dict(zip(SELECTORS, map(str, combination), strict=True))


def _unmet_condition(space: Space, hparam: Hyperparameter) -> Iterator[FileError]:
    """Yield an error if the condition of the table for `hparam` does not hold in every trial."""
    bound = dict(all_conditions(space, hparam))
    condition = space.table[hparam.name].condition
    while condition is not None:
        other, value = condition
        if set(bound.get(other, space.values_of(other))) != {value}:
            text = str(value).lower() if isinstance(value, bool) else value
            yield FileError(
                ("space", hparam.name),
                f"`{hparam.name}` has no effect unless {other} is {text}; remove it, or add"
                f" `when: {{{other}: {text}}}`",
            )
            return
        condition = space.table[other].condition


def _readers(space: Space, name: str) -> str:
    """Return the advice of a condition under which every trial reads the hyperparameter."""
    row = space.table[name]
    selector = row.part
    combinations = _combinations(space, {selector})
    readers = sorted(
        {components[selector] for components in combinations if row.is_read_by(components)}
    )
    if not readers:
        return ""
    values = readers[0] if len(readers) == 1 else f"[{', '.join(readers)}]"
    return f", or add `when: {{{selector}: {values}}}`"


def _constraint_errors(space: Space, named: frozenset[str]) -> Iterator[FileError]:
    """Yield the errors of each constraint, and those that exclude every point to evaluate."""
    names = {hparam.name for hparam in space.hparams} | named
    valid = []
    for index, text in enumerate(space.constraints):
        errors = constraint_errors(text, names) or _never_equal(space, text)
        yield from (FileError(("constraints", index), f"`{text}`: {error}") for error in errors)
        if not errors:
            valid.append((index, text))
    points = [completed_point(space, point) for point in space.points_to_evaluate]
    for index, text in valid:
        if points and not any(holds(text, point) for point in points):
            message = f"`{text}` excludes every point of `points_to_evaluate`"
            yield FileError(("constraints", index), message)


def _never_equal(space: Space, text: str) -> list[str]:
    """Return an error for each text that a hyperparameter is compared with and never equals."""
    errors = []
    for node in ast.walk(ast.parse(" ".join(text.split()), mode="eval")):
        if not isinstance(node, ast.Compare) or not isinstance(node.left, ast.Name):
            continue
        constants = [inner.value for inner in ast.walk(node) if isinstance(inner, ast.Constant)]
        possible = space.values_of(node.left.id)
        errors += [
            f"{node.left.id} is never {value!r}"
            for value in constants
            if isinstance(value, str) and value not in possible
        ]
    return errors


def _unsatisfiable_errors(space: Space) -> Iterator[FileError]:
    """Yield an error if none of 1,000 random configurations satisfies the constraints.

    And one for each constraint that compares a text with a number.
    """
    if not space.constraints:
        return
    # numpy takes longer to import than all else that reads a file.
    import numpy as np

    generator = np.random.default_rng(0)
    samples = [sample_hparams(space, generator) for _ in range(NUM_SAMPLES)]
    satisfying, has_type_error = set(range(NUM_SAMPLES)), False
    num_excluded: dict[str, int] = {}
    for index, text in enumerate(space.constraints):
        try:
            excluded = {number for number, values in enumerate(samples) if _violates(text, values)}
        except TypeError as error:
            has_type_error = True
            yield FileError(("constraints", index), f"`{text}`: {error}")
            continue
        num_excluded[text] = len(excluded)
        satisfying -= excluded
    if not satisfying and not has_type_error:
        text = max(num_excluded, key=num_excluded.__getitem__)
        yield FileError(
            ("constraints",),
            f"none of {NUM_SAMPLES:,} random configurations satisfies them; `{text}` excludes"
            f" {num_excluded[text]:,} of them: loosen it, or narrow the hyperparameters",
        )


def _violates(text: str, values: Mapping[str, Value]) -> bool:
    try:
        return truth(text, values) is False
    except ArithmeticError:
        return True
