"""Whether each hyperparameter of a space is read by something, wherever it exists."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from raysearch.config.space import Hyperparameter, Space, Value
from raysearch.training.components import DEFAULTS, ONLY_WITH, SELECTORS, hparams_read


def condition_errors(space: Space, written: frozenset[str]) -> Iterator[str]:
    """A sentence for each condition that can never hold; of hyperparameters not `written` at all, too."""
    by_name = {hyperparameter.name: hyperparameter for hyperparameter in space.hparams}
    for hyperparameter in space.hparams:
        for other, values in hyperparameter.when:
            if other not in by_name:
                if other not in written:
                    yield f"space.{hyperparameter.name}.when: {other} is not in the space"
            elif by_name[other].kind in ("uniform", "loguniform"):
                yield f"space.{hyperparameter.name}.when: {other} is a range; conditions take choices"
            else:
                possible = space.values_of(other, "")
                for value in values:
                    if value not in possible:
                        yield f"space.{hyperparameter.name}.when: {other} is never {value!r}"
    if by_name.get("folds", Hyperparameter("folds", "fixed", ())).when:
        yield "space.folds.when: folds belong to the whole study; remove the condition"


def unread_hparams(space: Space) -> Iterator[str]:
    """A sentence for each hyperparameter that exists somewhere in the space where no part reads it."""
    selectors = [(name, space.values_of(name, DEFAULTS[name])) for name in SELECTORS]
    combinations = [
        dict(zip(SELECTORS, map(str, values), strict=True))
        for values in product(*(values for _name, values in selectors))
    ]
    for hyperparameter in space.hparams:
        conditions = list(_conditions(space, hyperparameter))
        for chosen in combinations:
            possible = all(
                name not in chosen or chosen[name] in values for name, values in conditions
            )
            if possible and hyperparameter.name not in hparams_read(chosen):
                parts = ", ".join(f"{name} {value}" for name, value in chosen.items())
                readers = _readers(hyperparameter.name, combinations)
                yield f"space.{hyperparameter.name}: nothing reads it with {parts}; {readers}"
                break
        else:
            yield from _unread_beside(space, hyperparameter)


def _unread_beside(space: Space, hyperparameter: Hyperparameter) -> Iterator[str]:
    """A sentence where a hyperparameter that is read beside one value of another exists beside others."""
    if hyperparameter.name not in ONLY_WITH:
        return
    other, value, default = ONLY_WITH[hyperparameter.name]
    conditions = _conditions(space, hyperparameter)
    bound = any(name == other and set(values) == {value} for name, values in conditions)
    if not bound and set(space.values_of(other, default)) != {value}:
        text = str(value).lower() if isinstance(value, bool) else value
        yield (
            f"space.{hyperparameter.name}: nothing reads it unless {other} is {text}; add"
            f" `when: {{{other}: {text}}}`"
        )


def _conditions(
    space: Space, hyperparameter: Hyperparameter
) -> Iterator[tuple[str, tuple[Value, ...]]]:
    """Every condition of `hyperparameter`, and of the hyperparameters that these name."""
    by_name = {one.name: one for one in space.hparams}
    for name, values in hyperparameter.when:
        yield name, values
        if name in by_name:
            yield from _conditions(space, by_name[name])


def _readers(name: str, combinations: list[dict[str, str]]) -> str:
    reading = [chosen for chosen in combinations if name in hparams_read(chosen)]
    for selector in SELECTORS:
        inside = {chosen[selector] for chosen in reading}
        outside = {chosen[selector] for chosen in combinations if chosen not in reading}
        if inside and not inside & outside:
            return f"add `when: {{{selector}: [{', '.join(sorted(inside))}]}}`"
    return "remove it"
