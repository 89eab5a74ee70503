"""The hyperparameters of a search-space file, checked, also those that stand inside another one's choices."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from raysearch.config.space import RANGES, Conditions, Hyperparameter, Value
from raysearch.training.components import DEFAULTS, LIMITS

KINDS = ("choice", *RANGES)


@dataclass
class Place:
    """A hyperparameter as it stands in the file: its definition, under which hyperparameter, and which values of it."""

    hyperparameter: Hyperparameter
    definition: object
    under: str | None = None
    values: list[Value] = field(default_factory=list)

    def whole(self) -> Hyperparameter:
        """The hyperparameter with the condition that its place is."""
        if self.under is None:
            return self.hyperparameter
        return replace(
            self.hyperparameter, when=((self.under, tuple(self.values)), *self.hyperparameter.when)
        )

    def label(self, value: object) -> str:
        """Where it stands, in words."""
        return "at the top" if self.under is None else f"under {self.under} {value}"


def hparams_in(
    section: object, errors: list[str]
) -> tuple[tuple[Hyperparameter, ...], frozenset[str]]:
    """The hyperparameters of `section`, each after those its conditions name, and the names written there."""
    if not isinstance(section, dict) or not section:
        errors.append("space: holds nothing to search; name hyperparameters such as learning_rate")
        return (), frozenset()
    places: dict[str, Place] = {}
    written: set[str] = set()
    _collect(section, None, None, places, written, errors)
    return _ordered([one.whole() for one in places.values()], errors), frozenset(written)


def _collect(
    section: Mapping[Any, Any],
    under: str | None,
    value: Any,
    places: dict[str, Place],
    written: set[str],
    errors: list[str],
) -> None:
    """Put the hyperparameters of `section`, which exist where the hyperparameter `under` is `value`, in `places`."""
    for name, definition in section.items():
        if name not in LIMITS:
            errors.append(
                f"space.{name}: nothing reads it; the hyperparameters are {', '.join(LIMITS)}"
            )
            continue
        written.add(name)
        hyperparameter, inner = _hparam(name, definition, errors)
        if hyperparameter is not None:
            place = Place(hyperparameter, definition, under, [] if under is None else [value])
            _put(places, place, value, errors)
        for one, hparams in inner.items():
            _collect(hparams, name, one, places, written, errors)


def _put(places: dict[str, Place], place: Place, value: object, errors: list[str]) -> None:
    """Add `place`, or join its condition to that of the same hyperparameter under another value."""
    name = place.hyperparameter.name
    there = places.setdefault(name, place)
    if there is place:
        if any(other == place.under for other, _values in place.hyperparameter.when):
            errors.append(f"space.{name}.when: it stands under {place.under} already; remove that")
        return
    first = there.label(there.values[0] if there.values else None)
    both = f"space.{name}: stands {first} and {place.label(value)}"
    if there.under != place.under:
        errors.append(f"{both}; put it in one place, with `when` for what else it needs")
    elif there.definition != place.definition:
        errors.append(f"{both} with another definition; a hyperparameter has one: make them alike")
    elif value not in there.values:
        there.values.append(place.values[0])


def _hparam(
    name: str, value: object, errors: list[str]
) -> tuple[Hyperparameter | None, dict[Any, dict[Any, Any]]]:
    """The hyperparameter of one entry, and the hyperparameters that stand under each of its choices."""
    if not isinstance(value, dict):
        return _checked(name, "fixed", (value,), (), errors), {}
    extra = set(value) - set(KINDS) - {"when", "value"}
    kinds = [kind for kind in (*KINDS, "value") if kind in value]
    if extra or len(kinds) != 1:
        errors.append(
            f"space.{name}: {', '.join(map(str, value)) or 'nothing'}; give a value, or one of"
            f" {', '.join(KINDS)}, and `when` if need be"
        )
        return None, {}
    kind = kinds[0]
    values = value[kind] if kind != "value" else [value[kind]]
    inner: dict[Any, dict[Any, Any]] = {}
    if kind == "choice" and isinstance(values, dict):
        inner = _inner(name, values, errors)
        values = list(values)
    if not isinstance(values, list) or not values:
        errors.append(f"space.{name}.{kind}: {values!r} is not a list with values in it")
        return None, {}
    when = _when(name, value.get("when", {}), errors)
    kind = "fixed" if kind == "value" else kind
    return _checked(name, kind, tuple(values), when, errors), inner


def _inner(name: str, choices: dict[Any, Any], errors: list[str]) -> dict[Any, dict[Any, Any]]:
    found = {}
    for value, hparams in choices.items():
        if isinstance(hparams, dict):
            found[value] = hparams
        elif hparams is not None:
            errors.append(
                f"space.{name}.choice.{value}: {hparams!r} is not the hyperparameters that exist under it;"
                " give {} for none"
            )
    return found


def _when(name: str, when: object, errors: list[str]) -> Conditions:
    if not isinstance(when, dict):
        errors.append(f"space.{name}.when: {when!r} is not `other: value` or `other: [values]`")
        return ()
    errors += [
        f"space.{name}.when: {other} has no value there" for other in when if when[other] == []
    ]
    return tuple(
        (str(other), tuple(values) if isinstance(values, list) else (values,))
        for other, values in when.items()
    )


def _checked(
    name: str, kind: Any, values: tuple[Any, ...], when: Conditions, errors: list[str]
) -> Hyperparameter | None:
    before = len(errors)
    for value in values:
        error = LIMITS[name].error(value)
        if error:
            errors.append(f"space.{name}: {error}")
    if kind in RANGES and len(errors) == before:
        _range_errors(name, kind, values, errors)
    if kind == "choice" and len(errors) == before and len(set(values)) < len(values):
        errors.append(f"space.{name}.choice: a value stands twice; keep one of them")
    return Hyperparameter(name, kind, values, when) if len(errors) == before else None


def _range_errors(name: str, kind: str, values: tuple[Any, ...], errors: list[str]) -> None:
    limits = LIMITS[name]
    if limits.kind not in (int, float):
        errors.append(f"space.{name}.{kind}: not a number to range over; use choice")
    elif len(values) != 2:
        errors.append(f"space.{name}.{kind}: {list(values)} is not [low, high]")
    elif not values[0] < values[1]:
        errors.append(f"space.{name}.{kind}: {list(values)} is upside down; give [low, high]")
    elif kind in ("loguniform", "logint") and values[0] <= 0:
        errors.append(f"space.{name}.{kind}: low must be above 0")
    elif (kind in ("int", "logint")) != (limits.kind is int):
        right = "int, logint or choice" if limits.kind is int else "uniform or loguniform"
        errors.append(f"space.{name}.{kind}: {name} takes {right}")
    elif not all(math.isfinite(value) for value in values):
        errors.append(f"space.{name}.{kind}: {list(values)} is not finite")


def _ordered(hparams: list[Hyperparameter], errors: list[str]) -> tuple[Hyperparameter, ...]:
    """`hparams` in an order in which each stands after those its conditions name."""
    names = {hyperparameter.name for hyperparameter in hparams} | set(DEFAULTS)
    placed: list[Hyperparameter] = []
    waiting = list(hparams)
    while waiting:
        done = {hyperparameter.name for hyperparameter in placed} | (
            set(DEFAULTS) - {hyperparameter.name for hyperparameter in hparams}
        )
        ready = [
            hyperparameter
            for hyperparameter in waiting
            if all(o in done or o not in names for o, _ in hyperparameter.when)
        ]
        if not ready:
            circle = ", ".join(hyperparameter.name for hyperparameter in waiting)
            errors.append(
                f"space: the conditions of {circle} wait for each other; break the circle"
            )
            return tuple(hparams)
        placed += ready
        waiting = [hyperparameter for hyperparameter in waiting if hyperparameter not in ready]
    return tuple(placed)
