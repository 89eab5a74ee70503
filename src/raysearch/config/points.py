"""The points and constraints of a search-space file, checked against its hyperparameters."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from raysearch.config.constraints import errors_of, holds, truth
from raysearch.config.space import RANGES, Hyperparameter, Point, Space, Value
from raysearch.search.sampling.unit_cube import draw
from raysearch.training.components import LIMITS

DRAWS = 1000


def points_of(
    tree: Mapping[str, Any],
    hparams: tuple[Hyperparameter, ...],
    written: frozenset[str],
    errors: list[str],
) -> tuple[Point, ...]:
    """The configurations to try first, each in the order of `hparams`.

    Of a hyperparameter that is `written` and none of `hparams`, the errors are told elsewhere.
    """
    found = tree.get("points")
    if found is None:
        return ()
    if not isinstance(found, list) or not all(isinstance(one, dict) and one for one in found):
        errors.append("points: not a list of points, each as {learning_rate: 0.001, ...}")
        return ()
    points = [
        _point(f"points.{number}", one, hparams, written, errors)
        for number, one in enumerate(found, 1)
    ]
    if len({repr(one) for one in points}) < len(points):
        errors.append("points: one stands there twice")
    return tuple(points)


def _point(
    place: str,
    given: Mapping[Any, Any],
    hparams: tuple[Hyperparameter, ...],
    written: frozenset[str],
    errors: list[str],
) -> Point:
    by_name = {hyperparameter.name: hyperparameter for hyperparameter in hparams}
    chosen: dict[str, Value] = {}
    for name, value in given.items():
        if name not in by_name:
            if name not in written:
                errors.append(f"{place}.{name}: no hyperparameter of this space")
            continue
        error = LIMITS[name].error(value) or _outside(by_name[name], value)
        if error:
            errors.append(f"{place}.{name}: {error}")
        else:
            chosen[name] = _as_its_kind(by_name[name], value)
    errors += [f"{place}.{said}" for said in _excluded(chosen, hparams)]
    return tuple(
        (hyperparameter.name, chosen[hyperparameter.name])
        for hyperparameter in hparams
        if hyperparameter.name in chosen
    )


def _outside(hyperparameter: Hyperparameter, value: Any) -> str | None:
    if hyperparameter.kind in RANGES:
        low, high = hyperparameter.values
        inside = float(low) <= value <= float(high)
        return None if inside else f"{value!r} is outside {low} to {high}"
    if value in hyperparameter.values:
        return None
    return f"{value!r} is not allowed here: {', '.join(map(str, hyperparameter.values))}"


def _as_its_kind(hyperparameter: Hyperparameter, value: Any) -> Value:
    """`value` as a draw would give it: the choice itself, or a float of a range of floats."""
    if hyperparameter.kind in ("uniform", "loguniform"):
        return float(value)
    if hyperparameter.kind in RANGES:
        return int(value)
    return hyperparameter.values[hyperparameter.values.index(value)]


def _excluded(chosen: Mapping[str, Value], hparams: tuple[Hyperparameter, ...]) -> Iterator[str]:
    """A sentence for each hyperparameter of a point that does not exist beside its other values."""
    # What each hyperparameter may still be beside the point: no value where it cannot exist.
    possible: dict[str, tuple[Value, ...]] = {}
    for hyperparameter in hparams:
        possible[hyperparameter.name] = (
            (chosen[hyperparameter.name],)
            if hyperparameter.name in chosen
            else hyperparameter.each()
        )
        for other, wanted in hyperparameter.when:
            here = possible.get(other, wanted)
            if any(value in wanted for value in here):
                continue
            possible[hyperparameter.name] = ()
            if hyperparameter.name in chosen:
                found = f"is {here[0]}" if len(here) == 1 else "is not"
                need = " or ".join(map(str, wanted))
                yield f"{hyperparameter.name}: exists only where {other} is {need}, and here it {found}"


def constraint_errors(space: Space, written: frozenset[str]) -> Iterator[str]:
    """A sentence for what is wrong with each constraint, and for those that leave nothing."""
    names = {hyperparameter.name for hyperparameter in space.hparams} | written
    good = []
    for number, text in enumerate(space.constraints, 1):
        found = [*errors_of(text, names)]
        found += [] if found else _never_equal(space, text)
        yield from (f"constraints.{number}: `{text}`: {error}" for error in found)
        if not found:
            good.append(text)
    for text in good:
        points = [completed(space, point) for point in space.points]
        if points and not any(holds(text, point) for point in points):
            yield f"constraints: `{text}` excludes every point that `points` gives"


def completed(space: Space, point: Point) -> dict[str, Value]:
    """`point` with the fixed hyperparameters that exist beside it."""
    chosen: dict[str, Value] = {}
    for hyperparameter in space.hparams:
        found = dict(point).get(
            hyperparameter.name,
            hyperparameter.values[0] if hyperparameter.kind == "fixed" else None,
        )
        if found is not None and hyperparameter.active(chosen):
            chosen[hyperparameter.name] = found
    return chosen


def _never_equal(space: Space, text: str) -> list[str]:
    """A error for each text that a hyperparameter is compared with and never is."""
    said = []
    for node in ast.walk(ast.parse(" ".join(text.split()), mode="eval")):
        if not isinstance(node, ast.Compare) or not isinstance(node.left, ast.Name):
            continue
        constants = [one.value for one in ast.walk(node) if isinstance(one, ast.Constant)]
        possible = space.values_of(node.left.id, "")
        said += [
            f"{node.left.id} is never {value!r}"
            for value in constants
            if isinstance(value, str) and value not in possible
        ]
    return said


def too_narrow(space: Space) -> Iterator[str]:
    """A sentence where the constraints leave less than one configuration in a thousand.

    And one for each that compares a text with a number.
    """
    if not space.constraints:
        return
    generator = np.random.default_rng(0)
    drawn = [draw(space, generator) for _ in range(DRAWS)]
    left, clashes = set(range(DRAWS)), False
    excluded: dict[str, int] = {}
    for text in space.constraints:
        try:
            against = {number for number, chosen in enumerate(drawn) if _against(text, chosen)}
        except TypeError as error:
            clashes = True
            yield f"constraints: `{text}`: {error}"
            continue
        excluded[text] = len(against)
        left -= against
    if not left and not clashes:
        text = max(excluded, key=excluded.__getitem__)
        yield (
            f"constraints: none of {DRAWS:,} random configurations satisfies them; `{text}`"
            f" excludes {excluded[text]:,} of them: loosen it, or narrow the hyperparameters"
        )


def _against(text: str, chosen: Mapping[str, Value]) -> bool:
    try:
        return truth(text, chosen) is False
    except ArithmeticError:
        return True
