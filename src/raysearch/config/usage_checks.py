"""Whether each knob of a space is read by something, wherever it exists."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from raysearch.config.space import Knob, Space, Value
from raysearch.training.components import DEFAULTS, ONLY_WITH, SELECTORS, knobs_read


def condition_faults(space: Space, written: frozenset[str]) -> Iterator[str]:
    """A sentence for each condition that can never hold; of knobs not `written` at all, too."""
    by_name = {knob.name: knob for knob in space.knobs}
    for knob in space.knobs:
        for other, values in knob.when:
            if other not in by_name:
                if other not in written:
                    yield f"space.{knob.name}.when: {other} is not in the space"
            elif by_name[other].kind in ("uniform", "loguniform"):
                yield f"space.{knob.name}.when: {other} is a range; conditions take choices"
            else:
                possible = space.values_of(other, "")
                for value in values:
                    if value not in possible:
                        yield f"space.{knob.name}.when: {other} is never {value!r}"
    if by_name.get("folds", Knob("folds", "fixed", ())).when:
        yield "space.folds.when: folds belong to the whole study; remove the condition"


def unread_knobs(space: Space) -> Iterator[str]:
    """A sentence for each knob that exists somewhere in the space where no part reads it."""
    selectors = [(name, space.values_of(name, DEFAULTS[name])) for name in SELECTORS]
    combinations = [
        dict(zip(SELECTORS, map(str, values), strict=True))
        for values in product(*(values for _name, values in selectors))
    ]
    for knob in space.knobs:
        conditions = list(_conditions(space, knob))
        for chosen in combinations:
            possible = all(
                name not in chosen or chosen[name] in values for name, values in conditions
            )
            if possible and knob.name not in knobs_read(chosen):
                parts = ", ".join(f"{name} {value}" for name, value in chosen.items())
                readers = _readers(knob.name, combinations)
                yield f"space.{knob.name}: nothing reads it with {parts}; {readers}"
                break
        else:
            yield from _unread_beside(space, knob)


def _unread_beside(space: Space, knob: Knob) -> Iterator[str]:
    """A sentence where a knob that is read beside one value of another exists beside others."""
    if knob.name not in ONLY_WITH:
        return
    other, value, default = ONLY_WITH[knob.name]
    conditions = _conditions(space, knob)
    bound = any(name == other and set(values) == {value} for name, values in conditions)
    if not bound and set(space.values_of(other, default)) != {value}:
        text = str(value).lower() if isinstance(value, bool) else value
        yield (
            f"space.{knob.name}: nothing reads it unless {other} is {text}; add"
            f" `when: {{{other}: {text}}}`"
        )


def _conditions(space: Space, knob: Knob) -> Iterator[tuple[str, tuple[Value, ...]]]:
    """Every condition of `knob`, and of the knobs that these name."""
    by_name = {one.name: one for one in space.knobs}
    for name, values in knob.when:
        yield name, values
        if name in by_name:
            yield from _conditions(space, by_name[name])


def _readers(name: str, combinations: list[dict[str, str]]) -> str:
    reading = [chosen for chosen in combinations if name in knobs_read(chosen)]
    for selector in SELECTORS:
        inside = {chosen[selector] for chosen in reading}
        outside = {chosen[selector] for chosen in combinations if chosen not in reading}
        if inside and not inside & outside:
            return f"add `when: {{{selector}: [{', '.join(sorted(inside))}]}}`"
    return "remove it"
