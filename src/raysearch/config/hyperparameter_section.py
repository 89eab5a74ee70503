"""From the entries of a space file to a flat, ordered list of hyperparameters.

A hyperparameter that is nested in a choice exists if the choice has that value: the nesting becomes
a condition. The order is that of the file, except that a hyperparameter follows those that its
conditions name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from raysearch.config.file_errors import FileError, Path
from raysearch.config.hyperparameter_entry import HyperparameterEntry
from raysearch.config.hyperparameter_spec import SELECTORS, Value
from raysearch.config.space import Hyperparameter

Entries = Mapping[Value, HyperparameterEntry]


@dataclass
class _Placement:
    """An entry, the hyperparameter that it is nested in, and the values of that one."""

    entry: HyperparameterEntry
    path: Path
    parent: str | None = None
    parent_values: list[Value] = field(default_factory=list)

    def hyperparameter(self) -> Hyperparameter:
        """Return the hyperparameter with the condition that the nesting is."""
        hparam = self.entry.hyperparameter()
        if self.parent is None:
            return hparam
        return replace(hparam, when=((self.parent, tuple(self.parent_values)), *hparam.when))

    def description(self, value: Value | None) -> str:
        """Return where it is nested, in words."""
        return "at the top" if self.parent is None else f"in `{self.parent}: {value}`"


def flatten_entries(entries: Entries, errors: list[FileError]) -> tuple[Hyperparameter, ...]:
    """Return the hyperparameters of `entries` in their order; append what is wrong to `errors`."""
    placements: dict[str, _Placement] = {}
    _collect(entries, ("space",), None, placements, errors)
    return _ordered([placement.hyperparameter() for placement in placements.values()], errors)


def _collect(
    entries: Entries,
    path: Path,
    parent: tuple[str, Value] | None,
    placements: dict[str, _Placement],
    errors: list[FileError],
) -> None:
    """Add `entries`, which are nested in the `parent` hyperparameter and value, to `placements`."""
    for name, entry in entries.items():
        inner = (*path, name)
        placement = _Placement(entry, inner)
        if parent is not None:
            placement.parent, placement.parent_values = parent[0], [parent[1]]
        _add(placements, placement, parent[1] if parent else None, errors)
        for value, branch in entry.branches.items():
            _collect(branch, (*inner, "choice", value), (entry.name, value), placements, errors)


def _add(
    placements: dict[str, _Placement],
    placement: _Placement,
    value: Value | None,
    errors: list[FileError],
) -> None:
    """Add `placement`, or its value of the parent to the same hyperparameter's placement."""
    name = placement.entry.name
    first = placements.setdefault(name, placement)
    if first is placement:
        if placement.parent in placement.entry.when:
            message = f"it is nested in `{placement.parent}` already; remove this condition"
            errors.append(FileError((*placement.path, "when"), message))
        return
    first_value = first.parent_values[0] if first.parent_values else None
    both = f"defined {first.description(first_value)} and {placement.description(value)}"
    if first.parent != placement.parent:
        message = f"{both}; define it once, with `when` for its other conditions"
        errors.append(FileError(placement.path, message))
    elif first.entry != placement.entry:
        errors.append(FileError(placement.path, f"{both}, differently; use the same definition"))
    elif value not in first.parent_values:
        first.parent_values += placement.parent_values


def _ordered(hparams: list[Hyperparameter], errors: list[FileError]) -> tuple[Hyperparameter, ...]:
    """Return `hparams`, each after those that its conditions name."""
    names = {hparam.name for hparam in hparams}
    all_names = names | set(SELECTORS)
    ordered: list[Hyperparameter] = []
    waiting = list(hparams)
    while waiting:
        done = {hparam.name for hparam in ordered} | (set(SELECTORS) - names)
        ready = [
            hparam
            for hparam in waiting
            if all(other in done or other not in all_names for other, _values in hparam.when)
        ]
        if not ready:
            cycle = ", ".join(hparam.name for hparam in waiting)
            message = f"the conditions of {cycle} depend on each other; remove one of them"
            errors.append(FileError(("space",), message))
            return tuple(hparams)
        ordered += ready
        waiting = [hparam for hparam in waiting if hparam not in ready]
    return tuple(ordered)
