"""The configurations to evaluate first, checked against the hyperparameters of their space."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from raysearch.config.file_errors import FileError, Path
from raysearch.config.hyperparameter_spec import HyperparameterSpec, Value
from raysearch.config.hyperparameters import HYPERPARAMETERS
from raysearch.config.names import suggestion
from raysearch.config.space import RANGES, Hyperparameter, Point, Space

SECTION = "points_to_evaluate"


def parse_points(
    section: Sequence[Mapping[str, Value]],
    hparams: tuple[Hyperparameter, ...],
    named: frozenset[str],
    errors: list[FileError],
    table: Mapping[str, HyperparameterSpec] = HYPERPARAMETERS,
) -> tuple[Point, ...]:
    """Return the points of `section`, each in the order of `hparams`; append to `errors`.

    `named` are the hyperparameters that the file names; those that `hparams` lacks have errors
    already.
    """
    points = [
        _parse_point((SECTION, index), point, hparams, named, errors, table)
        for index, point in enumerate(section)
    ]
    if len({repr(point) for point in points}) < len(points):
        errors.append(FileError((SECTION,), "two points are the same"))
    return tuple(points)


def _parse_point(
    path: Path,
    point: Mapping[str, Value],
    hparams: tuple[Hyperparameter, ...],
    named: frozenset[str],
    errors: list[FileError],
    table: Mapping[str, HyperparameterSpec],
) -> Point:
    by_name = {hparam.name: hparam for hparam in hparams}
    chosen: dict[str, Value] = {}
    for name, value in point.items():
        if name not in by_name:
            if name not in named:
                message = f"not in this space{suggestion(name, by_name)}"
                errors.append(FileError((*path, name), message))
            continue
        error = table[name].value_error(value) or _not_contained(by_name[name], value)
        if error:
            errors.append(FileError((*path, name), error))
        else:
            chosen[name] = _converted(by_name[name], value)
    errors += [FileError((*path, name), message) for name, message in _excluded(chosen, hparams)]
    return tuple((hparam.name, chosen[hparam.name]) for hparam in hparams if hparam.name in chosen)


def _not_contained(hparam: Hyperparameter, value: Value) -> str | None:
    if hparam.contains(value):
        return None
    if hparam.kind in RANGES:
        return f"{value!r} is outside {hparam.values[0]} to {hparam.values[1]}"
    return f"{value!r} is not one of {', '.join(map(str, hparam.values))}"


def _converted(hparam: Hyperparameter, value: Value) -> Value:
    """Return `value` as a sampler gives it: the choice itself, or a float of a range of floats."""
    if hparam.kind in ("uniform", "loguniform"):
        return float(value)
    if hparam.kind in RANGES:
        return int(value)
    return hparam.values[hparam.values.index(value)]


def _excluded(
    chosen: Mapping[str, Value], hparams: tuple[Hyperparameter, ...]
) -> Iterator[tuple[str, str]]:
    """Yield the name of each hyperparameter of a point that cannot exist in it, and the reason."""
    # The values that each hyperparameter may still have beside the point; none if it cannot exist.
    possible: dict[str, tuple[Value, ...]] = {}
    for hparam in hparams:
        is_chosen = hparam.name in chosen
        possible[hparam.name] = (chosen[hparam.name],) if is_chosen else hparam.all_values()
        for other, allowed in hparam.when:
            other_values = possible.get(other, allowed)
            if any(value in allowed for value in other_values):
                continue
            possible[hparam.name] = ()
            if is_chosen:
                state = f"is {other_values[0]}" if len(other_values) == 1 else "does not exist"
                needed = " or ".join(map(str, allowed))
                yield hparam.name, f"exists only if {other} is {needed}, but {other} {state} here"


def completed_point(space: Space, point: Point) -> dict[str, Value]:
    """Return `point` with the fixed hyperparameters that exist beside it."""
    values = dict(point)
    return space.active_values(
        lambda hparam: values.get(hparam.name, hparam.values[0] if hparam.kind == "fixed" else None)
    )
