"""Configurations of several search spaces as the features of one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from raysearch.config.hyperparameter_spec import Hparams, Value
from raysearch.config.hyperparameters import HYPERPARAMETERS, resolve
from raysearch.config.space import RANGES, Hyperparameter, Space
from raysearch.config.space_geometry import ABSENT
from raysearch.errors import SpaceError

Floats = NDArray[np.float64]


def values_with_defaults(hparams: Hparams, names: Sequence[str]) -> list[Value | None]:
    """Return the values of hyperparameters, the default of those that `hparams` does not have.

    None stands for a hyperparameter that only other spaces declare.
    """
    if all(name in hparams for name in names):
        return [hparams[name] for name in names]
    defaults = _defaults(hparams)
    return [hparams.get(name, defaults.get(name)) for name in names]


def _defaults(hparams: Hparams) -> Mapping[str, Value | None]:
    """The defaults of the table beside `hparams`; none if a component of the user's is missing."""
    # An official split has one fold, which the table does not allow.
    of_table = {
        name: value
        for name, value in hparams.items()
        if name in HYPERPARAMETERS and name != "folds"
    }
    try:
        params = resolve(of_table)
    except SpaceError:  # a value of a later version
        return {}
    return {name: getattr(params, name) for name in HYPERPARAMETERS}


class ConfigurationEncoder:
    """Encodes configurations by the hyperparameters that vary among those of some studies.

    A number is a feature; of another hyperparameter, each value is one.

    Args:
        configurations: The configurations of the studies.
    """

    def __init__(self, configurations: Sequence[Hparams]) -> None:
        names = list(dict.fromkeys(name for hparams in configurations for name in hparams))
        names = [name for name in names if name != "folds"]  # the objective is a mean over them
        table = [values_with_defaults(hparams, names) for hparams in configurations]
        self._names: list[str] = []
        # The values of each hyperparameter; none if it is a number.
        self._categories: list[tuple[Value | None, ...]] = []
        for column, name in enumerate(names):
            values = tuple(dict.fromkeys(row[column] for row in table))
            if len(values) > 1:
                self._names.append(name)
                self._categories.append(() if all(map(_is_number, values)) else values)

    def rows(self, configurations: Sequence[Hparams]) -> Floats:
        """Return the features of configurations, shape (configurations, features)."""
        num_features = sum(len(categories) or 1 for categories in self._categories)
        rows = np.empty((len(configurations), num_features))
        for number, hparams in enumerate(configurations):
            rows[number] = self._row(hparams)
        return rows

    def _row(self, hparams: Hparams) -> list[float]:
        row: list[float] = []
        values = values_with_defaults(hparams, self._names)
        for value, categories in zip(values, self._categories, strict=True):
            if categories:
                row += [float(value == category) for category in categories]
            else:
                row.append(float(value) if _is_number(value) else ABSENT)  # type: ignore[arg-type]
        return row


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def nearest_configuration(space: Space, hparams: Hparams) -> dict[str, Value] | None:
    """Return the configuration of `space` that is nearest to one of another space.

    Values outside a range are at its end, and a number is the nearest of a choice of numbers. Fixed
    hyperparameters have their value. None if the space has not the value of another choice.
    """
    names = [hparam.name for hparam in space.hparams]
    values = dict(zip(names, values_with_defaults(hparams, names), strict=True))
    nearest: dict[str, Value] = {}
    for hparam in space.hparams:
        if not hparam.is_active(nearest):
            continue
        value = values[hparam.name]
        if hparam.kind == "fixed":
            nearest[hparam.name] = hparam.values[0]
            continue
        chosen = _nearest_value(hparam, value)
        if chosen is None:
            return None
        nearest[hparam.name] = chosen
    return nearest


def _nearest_value(hparam: Hyperparameter, value: Value | None) -> Value | None:
    """The value of a choice or a range that is nearest to `value`; None if there is none."""
    if hparam.kind not in RANGES and value in hparam.values:
        return hparam.values[hparam.values.index(value)]
    if not _is_number(value) or not all(map(_is_number, hparam.values)):
        return None
    number = float(value)  # type: ignore[arg-type]
    if hparam.kind not in RANGES:
        return min(hparam.values, key=lambda choice: abs(float(choice) - number))
    low, high = hparam.values
    clipped = min(max(number, float(low)), float(high))
    return round(clipped) if hparam.kind in ("int", "logint") else clipped
