"""The points and constraints of a search-space file, checked against its knobs."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from raysearch.config.constraints import faults_of, holds, truth
from raysearch.config.space import RANGES, Knob, Point, Space, Value
from raysearch.search.sampling.unit_cube import draw
from raysearch.training.components import LIMITS

DRAWS = 1000


def points_of(
    tree: Mapping[str, Any], knobs: tuple[Knob, ...], written: frozenset[str], faults: list[str]
) -> tuple[Point, ...]:
    """The configurations to try first, each in the order of `knobs`.

    Of a knob that is `written` and none of `knobs`, the faults are told elsewhere.
    """
    found = tree.get("points")
    if found is None:
        return ()
    if not isinstance(found, list) or not all(isinstance(one, dict) and one for one in found):
        faults.append("points: not a list of points, each as {learning_rate: 0.001, ...}")
        return ()
    points = [
        _point(f"points.{number}", one, knobs, written, faults)
        for number, one in enumerate(found, 1)
    ]
    if len({repr(one) for one in points}) < len(points):
        faults.append("points: one stands there twice")
    return tuple(points)


def _point(
    place: str,
    given: Mapping[Any, Any],
    knobs: tuple[Knob, ...],
    written: frozenset[str],
    faults: list[str],
) -> Point:
    by_name = {knob.name: knob for knob in knobs}
    chosen: dict[str, Value] = {}
    for name, value in given.items():
        if name not in by_name:
            if name not in written:
                faults.append(f"{place}.{name}: no knob of this space")
            continue
        fault = LIMITS[name].fault(value) or _outside(by_name[name], value)
        if fault:
            faults.append(f"{place}.{name}: {fault}")
        else:
            chosen[name] = _as_its_kind(by_name[name], value)
    faults += [f"{place}.{said}" for said in _excluded(chosen, knobs)]
    return tuple((knob.name, chosen[knob.name]) for knob in knobs if knob.name in chosen)


def _outside(knob: Knob, value: Any) -> str | None:
    if knob.kind in RANGES:
        low, high = knob.values
        inside = float(low) <= value <= float(high)
        return None if inside else f"{value!r} is outside {low} to {high}"
    if value in knob.values:
        return None
    return f"{value!r} is not allowed here: {', '.join(map(str, knob.values))}"


def _as_its_kind(knob: Knob, value: Any) -> Value:
    """`value` as a draw would give it: the choice itself, or a float of a range of floats."""
    if knob.kind in ("uniform", "loguniform"):
        return float(value)
    if knob.kind in RANGES:
        return int(value)
    return knob.values[knob.values.index(value)]


def _excluded(chosen: Mapping[str, Value], knobs: tuple[Knob, ...]) -> Iterator[str]:
    """A sentence for each knob of a point that does not exist beside its other values."""
    # What each knob may still be beside the point: no value where it cannot exist.
    possible: dict[str, tuple[Value, ...]] = {}
    for knob in knobs:
        possible[knob.name] = (chosen[knob.name],) if knob.name in chosen else knob.each()
        for other, wanted in knob.when:
            here = possible.get(other, wanted)
            if any(value in wanted for value in here):
                continue
            possible[knob.name] = ()
            if knob.name in chosen:
                found = f"is {here[0]}" if len(here) == 1 else "is not"
                need = " or ".join(map(str, wanted))
                yield f"{knob.name}: exists only where {other} is {need}, and here it {found}"


def constraint_faults(space: Space, written: frozenset[str]) -> Iterator[str]:
    """A sentence for what is wrong with each constraint, and for those that leave nothing."""
    names = {knob.name for knob in space.knobs} | written
    good = []
    for number, text in enumerate(space.constraints, 1):
        found = [*faults_of(text, names)]
        found += [] if found else _never_equal(space, text)
        yield from (f"constraints.{number}: `{text}`: {fault}" for fault in found)
        if not found:
            good.append(text)
    for text in good:
        points = [completed(space, point) for point in space.points]
        if points and not any(holds(text, point) for point in points):
            yield f"constraints: `{text}` excludes every point that `points` gives"


def completed(space: Space, point: Point) -> dict[str, Value]:
    """`point` with the fixed knobs that exist beside it."""
    chosen: dict[str, Value] = {}
    for knob in space.knobs:
        found = dict(point).get(knob.name, knob.values[0] if knob.kind == "fixed" else None)
        if found is not None and knob.active(chosen):
            chosen[knob.name] = found
    return chosen


def _never_equal(space: Space, text: str) -> list[str]:
    """A fault for each text that a knob is compared with and never is."""
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
            f" excludes {excluded[text]:,} of them: loosen it, or narrow the knobs"
        )


def _against(text: str, chosen: Mapping[str, Value]) -> bool:
    try:
        return truth(text, chosen) is False
    except ArithmeticError:
        return True
