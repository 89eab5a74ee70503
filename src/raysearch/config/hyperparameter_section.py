"""The knobs of a search-space file, checked, also those that stand inside another one's choices."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from raysearch.config.space import RANGES, Conditions, Knob, Value
from raysearch.training.components import DEFAULTS, LIMITS

KINDS = ("choice", *RANGES)


@dataclass
class Place:
    """A knob as it stands in the file: its definition, under which knob, and which values of it."""

    knob: Knob
    definition: object
    under: str | None = None
    values: list[Value] = field(default_factory=list)

    def whole(self) -> Knob:
        """The knob with the condition that its place is."""
        if self.under is None:
            return self.knob
        return replace(self.knob, when=((self.under, tuple(self.values)), *self.knob.when))

    def label(self, value: object) -> str:
        """Where it stands, in words."""
        return "at the top" if self.under is None else f"under {self.under} {value}"


def knobs_in(section: object, faults: list[str]) -> tuple[tuple[Knob, ...], frozenset[str]]:
    """The knobs of `section`, each after those its conditions name, and the names written there."""
    if not isinstance(section, dict) or not section:
        faults.append("space: holds nothing to search; name knobs such as learning_rate")
        return (), frozenset()
    places: dict[str, Place] = {}
    written: set[str] = set()
    _collect(section, None, None, places, written, faults)
    return _ordered([one.whole() for one in places.values()], faults), frozenset(written)


def _collect(
    section: Mapping[Any, Any],
    under: str | None,
    value: Any,
    places: dict[str, Place],
    written: set[str],
    faults: list[str],
) -> None:
    """Put the knobs of `section`, which exist where the knob `under` is `value`, in `places`."""
    for name, definition in section.items():
        if name not in LIMITS:
            faults.append(f"space.{name}: nothing reads it; the knobs are {', '.join(LIMITS)}")
            continue
        written.add(name)
        knob, inner = _knob(name, definition, faults)
        if knob is not None:
            place = Place(knob, definition, under, [] if under is None else [value])
            _put(places, place, value, faults)
        for one, knobs in inner.items():
            _collect(knobs, name, one, places, written, faults)


def _put(places: dict[str, Place], place: Place, value: object, faults: list[str]) -> None:
    """Add `place`, or join its condition to that of the same knob under another value."""
    name = place.knob.name
    there = places.setdefault(name, place)
    if there is place:
        if any(other == place.under for other, _values in place.knob.when):
            faults.append(f"space.{name}.when: it stands under {place.under} already; remove that")
        return
    first = there.label(there.values[0] if there.values else None)
    both = f"space.{name}: stands {first} and {place.label(value)}"
    if there.under != place.under:
        faults.append(f"{both}; put it in one place, with `when` for what else it needs")
    elif there.definition != place.definition:
        faults.append(f"{both} with another definition; a knob has one: make them alike")
    elif value not in there.values:
        there.values.append(place.values[0])


def _knob(
    name: str, value: object, faults: list[str]
) -> tuple[Knob | None, dict[Any, dict[Any, Any]]]:
    """The knob of one entry, and the knobs that stand under each of its choices."""
    if not isinstance(value, dict):
        return _checked(name, "fixed", (value,), (), faults), {}
    extra = set(value) - set(KINDS) - {"when", "value"}
    kinds = [kind for kind in (*KINDS, "value") if kind in value]
    if extra or len(kinds) != 1:
        faults.append(
            f"space.{name}: {', '.join(map(str, value)) or 'nothing'}; give a value, or one of"
            f" {', '.join(KINDS)}, and `when` if need be"
        )
        return None, {}
    kind = kinds[0]
    values = value[kind] if kind != "value" else [value[kind]]
    inner: dict[Any, dict[Any, Any]] = {}
    if kind == "choice" and isinstance(values, dict):
        inner = _inner(name, values, faults)
        values = list(values)
    if not isinstance(values, list) or not values:
        faults.append(f"space.{name}.{kind}: {values!r} is not a list with values in it")
        return None, {}
    when = _when(name, value.get("when", {}), faults)
    kind = "fixed" if kind == "value" else kind
    return _checked(name, kind, tuple(values), when, faults), inner


def _inner(name: str, choices: dict[Any, Any], faults: list[str]) -> dict[Any, dict[Any, Any]]:
    found = {}
    for value, knobs in choices.items():
        if isinstance(knobs, dict):
            found[value] = knobs
        elif knobs is not None:
            faults.append(
                f"space.{name}.choice.{value}: {knobs!r} is not the knobs that exist under it;"
                " give {} for none"
            )
    return found


def _when(name: str, when: object, faults: list[str]) -> Conditions:
    if not isinstance(when, dict):
        faults.append(f"space.{name}.when: {when!r} is not `other: value` or `other: [values]`")
        return ()
    faults += [
        f"space.{name}.when: {other} has no value there" for other in when if when[other] == []
    ]
    return tuple(
        (str(other), tuple(values) if isinstance(values, list) else (values,))
        for other, values in when.items()
    )


def _checked(
    name: str, kind: Any, values: tuple[Any, ...], when: Conditions, faults: list[str]
) -> Knob | None:
    before = len(faults)
    for value in values:
        fault = LIMITS[name].fault(value)
        if fault:
            faults.append(f"space.{name}: {fault}")
    if kind in RANGES and len(faults) == before:
        _range_faults(name, kind, values, faults)
    if kind == "choice" and len(faults) == before and len(set(values)) < len(values):
        faults.append(f"space.{name}.choice: a value stands twice; keep one of them")
    return Knob(name, kind, values, when) if len(faults) == before else None


def _range_faults(name: str, kind: str, values: tuple[Any, ...], faults: list[str]) -> None:
    limits = LIMITS[name]
    if limits.kind not in (int, float):
        faults.append(f"space.{name}.{kind}: not a number to range over; use choice")
    elif len(values) != 2:
        faults.append(f"space.{name}.{kind}: {list(values)} is not [low, high]")
    elif not values[0] < values[1]:
        faults.append(f"space.{name}.{kind}: {list(values)} is upside down; give [low, high]")
    elif kind in ("loguniform", "logint") and values[0] <= 0:
        faults.append(f"space.{name}.{kind}: low must be above 0")
    elif (kind in ("int", "logint")) != (limits.kind is int):
        right = "int, logint or choice" if limits.kind is int else "uniform or loguniform"
        faults.append(f"space.{name}.{kind}: {name} takes {right}")
    elif not all(math.isfinite(value) for value in values):
        faults.append(f"space.{name}.{kind}: {list(values)} is not finite")


def _ordered(knobs: list[Knob], faults: list[str]) -> tuple[Knob, ...]:
    """`knobs` in an order in which each stands after those its conditions name."""
    names = {knob.name for knob in knobs} | set(DEFAULTS)
    placed: list[Knob] = []
    waiting = list(knobs)
    while waiting:
        done = {knob.name for knob in placed} | (set(DEFAULTS) - {knob.name for knob in knobs})
        ready = [knob for knob in waiting if all(o in done or o not in names for o, _ in knob.when)]
        if not ready:
            circle = ", ".join(knob.name for knob in waiting)
            faults.append(
                f"space: the conditions of {circle} wait for each other; break the circle"
            )
            return tuple(knobs)
        placed += ready
        waiting = [knob for knob in waiting if knob not in ready]
    return tuple(placed)
