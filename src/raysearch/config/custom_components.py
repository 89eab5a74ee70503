"""Components of the user's own, and the hyperparameters that their signatures declare.

The keyword-only parameters of a component are the hyperparameters that it reads. One with the name
of a hyperparameter of the table is that one. Each other one is declared by its annotation, with the
bounds of pydantic's `Field`, and its default:

    def build(shape, num_classes, *, depth: Annotated[int, Field(ge=1, le=8)] = 3, dropout): ...
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pydantic.fields import FieldInfo

from raysearch.config.custom_code import distribution_of, load_function
from raysearch.config.hyperparameter_spec import (
    SELECTORS,
    HyperparameterSpec,
    Value,
    is_import_path,
)
from raysearch.config.hyperparameters import HYPERPARAMETERS, TrialParams
from raysearch.errors import SpaceError

TYPES: tuple[type[Value], ...] = (bool, int, float, str)
# The columns of the tables of trials.
RESERVED = ("trial", "kind", "state", "reason", "seconds", "minutes", "epoch", "objective")
DECLARATION = "write `name: Annotated[int, Field(ge=1, le=8)] = 3`"


@dataclass(frozen=True)
class DeclaredHyperparameter:
    """A hyperparameter that a component of the user's declares.

    Attributes:
        name: Its name.
        type: `bool`, `int`, `float` or `str`.
        default: Its default.
        low, high: The bounds of a number, both included; None for none.
        choices: The values of a text.
        documentation: What it is, in one line; may be empty.
    """

    name: str
    type: str
    default: Value
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    documentation: str = ""

    def row(self, part: str, component: str) -> HyperparameterSpec:
        """Return it as a row of the table of hyperparameters."""
        return HyperparameterSpec(
            default=self.default,
            documentation=self.documentation,
            low=float("-inf") if self.low is None else self.low,
            high=float("inf") if self.high is None else self.high,
            choices=self.choices,
            part=part,
            components=(component,),
            default_by_component={component: self.default},
            name=self.name,
            type=next(each for each in TYPES if each.__name__ == self.type),
        )


@dataclass(frozen=True)
class CustomComponent:
    """A component of the user's.

    Attributes:
        part: The hyperparameter that selects it, such as `architecture`.
        name: Its import path, such as `mynets:build`.
        reads: The hyperparameters of the table that it reads.
        declared: The hyperparameters that it declares.
        distribution: The name and version of the installed package that it comes from; empty if it
            is a file beside the space file.
    """

    part: str
    name: str
    reads: tuple[str, ...] = ()
    declared: tuple[DeclaredHyperparameter, ...] = ()
    distribution: str = ""

    def __str__(self) -> str:
        names = [*self.reads, *(hparam.name for hparam in self.declared)]
        return f"{self.part} with {', '.join(names) or 'no hyperparameters'}"


def import_component(part: str, name: str) -> CustomComponent:
    """Import a component, and return what its signature declares.

    Args:
        part: The hyperparameter that selects it.
        name: Its import path.

    Raises:
        SpaceError: If it cannot be imported, or a parameter is no hyperparameter.
    """
    function = load_function(name)
    reads, declared = [], []
    parameters = _keyword_only(name, function)
    _check_positional(name, function)
    for parameter in parameters:
        if parameter.name == "epochs":
            raise SpaceError(
                f"{name}: `epochs` is no argument of a component; a schedule gets the number of"
                " steps"
            )
        if parameter.name in HYPERPARAMETERS:
            _check_part(part, name, parameter.name)
            reads.append(parameter.name)
        else:
            annotation = _annotation(name, function, parameter.name)
            declared.append(_declared(name, parameter, annotation))
    return CustomComponent(part, name, tuple(reads), tuple(declared), distribution_of(name))


def is_name(name: str) -> bool:
    """Return whether a hyperparameter of a component may have a name."""
    is_identifier = name.isidentifier() and name.isascii() and name.islower()
    return is_identifier and name not in RESERVED


def custom_component(part: str, params: TrialParams) -> Callable[..., Any] | None:
    """Return the component of the user's that a trial selects, with its keyword arguments.

    Args:
        part: The hyperparameter that selects it.
        params: The parameters of the trial.

    Returns:
        The function with its hyperparameters; None if the component is a built-in one.

    Raises:
        SpaceError: If it cannot be imported, or a hyperparameter has a value that is not allowed.
    """
    name = str(getattr(params, part))
    if not is_import_path(name):
        return None
    function = load_function(name)
    arguments: dict[str, Value | None] = {}
    for parameter in _keyword_only(name, function):
        if parameter.name in HYPERPARAMETERS:
            arguments[parameter.name] = getattr(params, parameter.name)
        elif parameter.name in params.declared:
            value = params.declared[parameter.name]
            annotation = _annotation(name, function, parameter.name)
            error = _declared(name, parameter, annotation).row(part, name).value_error(value)
            if error:
                raise SpaceError(f"{parameter.name}: {error}")
            arguments[parameter.name] = value
    return partial(function, **arguments)


def check_metric(name: str) -> None:
    """Import a metric, and check that it can be called with labels and probabilities alone.

    Raises:
        SpaceError: If it cannot be imported, or requires another argument.
    """
    for parameter in _keyword_only(name, load_function(name)):
        if parameter.default is inspect.Parameter.empty:
            raise SpaceError(
                f"{name}: parameter `{parameter.name}` has no default; a metric has no"
                " hyperparameters"
            )


def _keyword_only(name: str, function: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        raise SpaceError(f"{name}: has no signature; wrap it in a function") from None
    return [each for each in parameters if each.kind is inspect.Parameter.KEYWORD_ONLY]


def _check_positional(name: str, function: Callable[..., Any]) -> None:
    """Raise SpaceError if a positional parameter has a default: nothing would set it."""
    for parameter in inspect.signature(function).parameters.values():
        is_positional = parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        if is_positional and parameter.default is not inspect.Parameter.empty:
            raise SpaceError(
                f"{name}: parameter `{parameter.name}` has a default and is not keyword-only, so"
                " that nothing sets it; write `*,` before it"
            )


def _annotation(name: str, function: Callable[..., Any], parameter: str) -> object:
    """Return the annotation of a parameter; None if it has none."""
    target = function.__init__ if inspect.isclass(function) else function
    try:
        return get_type_hints(target, include_extras=True).get(parameter)
    except Exception as error:  # annotations of the user's may contain anything
        raise SpaceError(f"{name}: its annotations cannot be evaluated ({error})") from None


def _check_part(part: str, name: str, hparam: str) -> None:
    """Raise SpaceError if a component reads a hyperparameter of another kind of component."""
    owner = HYPERPARAMETERS[hparam].part
    if owner in SELECTORS and owner != part:
        raise SpaceError(
            f"{name}: `{hparam}` is a hyperparameter of the {owner}; rename this parameter"
        )


def _declared(name: str, parameter: inspect.Parameter, hint: Any) -> DeclaredHyperparameter:
    """Return the hyperparameter that a parameter declares."""
    place = f"{name}: parameter `{parameter.name}`"
    if parameter.name in RESERVED:
        raise SpaceError(f"{place} has the name of a column of results; rename it")
    if not is_name(parameter.name):
        raise SpaceError(f"{place} is no name of a hyperparameter; use lower-case letters")
    if hint is None:
        raise SpaceError(f"{place} has no type; {DECLARATION}")
    if parameter.default is inspect.Parameter.empty:
        raise SpaceError(f"{place} has no default; {DECLARATION}")
    field = FieldInfo.from_annotation(hint)
    if any(not hasattr(entry, "ge") and not hasattr(entry, "le") for entry in field.metadata):
        raise SpaceError(f"{place} has other bounds than `ge` and `le`; {DECLARATION}")
    choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    value_type: Any = str if choices else field.annotation
    if value_type not in TYPES or not all(isinstance(choice, str) for choice in choices):
        raise SpaceError(
            f"{place} is neither bool, int, float nor a Literal of texts; {DECLARATION}"
        )
    if value_type is str and not choices:
        raise SpaceError(f'{place} is a text; name its values, such as Literal["relu", "gelu"]')
    default = float(parameter.default) if value_type is float else parameter.default
    hparam = DeclaredHyperparameter(
        parameter.name,
        value_type.__name__,
        default,
        _bound(field, "ge"),
        _bound(field, "le"),
        tuple(choices),
        field.description or "",
    )
    error = hparam.row("", name).value_error(default)
    if error:
        raise SpaceError(f"{place}: its default {error}")
    return hparam


def _bound(field: FieldInfo, kind: str) -> float | None:
    """Return the bound `ge` or `le` of a field; None if it has none."""
    values = [getattr(entry, kind) for entry in field.metadata if hasattr(entry, kind)]
    return float(values[0]) if values else None


def check_components(components: Iterable[CustomComponent]) -> None:
    """Raise SpaceError if two components declare the same name differently."""
    by_name: dict[str, tuple[CustomComponent, DeclaredHyperparameter]] = {}
    for component in components:
        for hparam in component.declared:
            other, first = by_name.setdefault(hparam.name, (component, hparam))
            same = replace(first, default=hparam.default, documentation=hparam.documentation)
            if other.part != component.part or same != hparam:
                raise SpaceError(
                    f"{component.name} and {other.name} declare `{hparam.name}` differently; rename"
                    " one of them"
                )


@lru_cache(16)
def table_with(components: tuple[CustomComponent, ...]) -> Mapping[str, HyperparameterSpec]:
    """Return the table of hyperparameters with those that `components` read and declare."""
    table = dict(HYPERPARAMETERS)
    for component in components:
        for name in component.reads:
            row = table[name]
            if row.part == component.part:
                table[name] = replace(row, components=(*row.components, component.name))
        for hparam in component.declared:
            row = hparam.row(component.part, component.name)
            if (other := table.get(hparam.name)) is not None:
                row = replace(
                    other,
                    components=(*other.components, *row.components),
                    default_by_component={**other.default_by_component, **row.default_by_component},
                )
            table[hparam.name] = row
    return table
