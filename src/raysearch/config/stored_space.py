"""Checks the space in a stored plan, whose file may be forged."""

from __future__ import annotations

from collections.abc import Mapping

from raysearch.config.constraints import constraint_errors
from raysearch.config.custom_components import TYPES, CustomComponent, is_name
from raysearch.config.hyperparameter_spec import (
    SELECTORS,
    HyperparameterSpec,
    Value,
    is_import_path,
)
from raysearch.config.hyperparameters import HYPERPARAMETERS
from raysearch.config.names import FOLDS, OBJECTIVES
from raysearch.config.prior_section import prior_errors
from raysearch.config.space import RANGES, Hyperparameter, Space

RANGE_ENDS = 2


def stored_space_error(space: Space) -> str | None:
    """Return what no search-space file would contain; None if there is nothing."""
    if space.mode != OBJECTIVES.get(
        space.metric, space.mode if is_import_path(space.metric) else ""
    ):
        return f"its objective {space.metric[:100]!r} is unknown"
    if space.epochs < 1 or space.trials < 1 or space.repeats < 0:
        return "its numbers of epochs, trials or repeats are out of range"
    for component in space.components:
        if not _is_component(component):
            return f"its component {component.name[:100]!r} is not valid"
    earlier_names: set[str] = set()
    for hparam in space.hparams:
        error = _hyperparameter_error(hparam, earlier_names, space.table)
        if error is not None:
            return f"its hyperparameter {hparam.name[:100]!r} {error}"
        earlier_names.add(hparam.name)
    for text in space.constraints:
        if constraint_errors(text, earlier_names):
            return f"its constraint {text[:100]!r} is not valid"
    return next(prior_errors(space), None)


def _is_component(component: CustomComponent) -> bool:
    """Return whether a component is one that `import_component` returns."""
    types = {each.__name__ for each in TYPES}
    return (
        component.part in SELECTORS
        and is_import_path(component.name)
        and set(component.reads) <= HYPERPARAMETERS.keys()
        and all(each.name not in HYPERPARAMETERS for each in component.declared)
        and {each.type for each in component.declared} <= types
        and all(is_name(each.name) for each in component.declared)
        and all(
            each.row(component.part, component.name).value_error(each.default) is None
            for each in component.declared
        )
    )


def _hyperparameter_error(
    hparam: Hyperparameter, earlier_names: set[str], table: Mapping[str, HyperparameterSpec]
) -> str | None:
    if hparam.name not in table:
        return "is unknown"
    if hparam.name in earlier_names:
        return "is there twice"
    if not hparam.values or not all(
        _is_allowed(table[hparam.name], value) for value in hparam.values
    ):
        return "has a value that is not allowed"
    if hparam.kind in RANGES and not _is_range(hparam):
        return "is no range"
    if any(name not in earlier_names for name, _values in hparam.when):
        return "has a condition on one that does not come before it"
    return None


def _is_allowed(row: HyperparameterSpec, value: Value) -> bool:
    if row.name == FOLDS:  # an official split has one fold, and leave-one-out one for each patient
        return type(value) is int and value >= 1
    return row.value_error(value) is None


def _is_range(hparam: Hyperparameter) -> bool:
    if len(hparam.values) != RANGE_ENDS:
        return False
    low, high = (value if isinstance(value, (int, float)) else None for value in hparam.values)
    return low is not None and high is not None and low < high
