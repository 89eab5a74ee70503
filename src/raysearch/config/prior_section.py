"""The section `prior` of a space file, checked against the hyperparameters of its space."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from raysearch.config.file_errors import FileError
from raysearch.config.hyperparameter_spec import Value
from raysearch.config.names import candidates, suggestion
from raysearch.config.samplers import Sampler
from raysearch.config.space import RANGES, Hyperparameter, Prior, Space

SECTION = "prior"
# Samplers that have one.
SAMPLERS_WITH_PRIOR = ("forest", "random")
KEYS = ("around", "factor", "deviation")
MAX_WEIGHT, MAX_NUMBER = 1e6, 1e12


def parse_priors(
    section: Mapping[str, Mapping[Value, Value]],
    hparams: Sequence[Hyperparameter],
    sampler: Sampler,
    named: frozenset[str],
    errors: list[FileError],
) -> tuple[Prior, ...]:
    """Return the priors of `section`; append to `errors`.

    `named` are the hyperparameters that the file names; those that `hparams` lacks have errors
    already.
    """
    if section and sampler.name not in SAMPLERS_WITH_PRIOR:
        message = f"the sampler {sampler.name} has none; use {' or '.join(SAMPLERS_WITH_PRIOR)}"
        errors.append(FileError((SECTION,), message))
    by_name = {hparam.name: hparam for hparam in hparams}
    priors = []
    for name, entry in section.items():
        if name not in by_name:
            if name not in named:
                message = f"not in this space{suggestion(name, by_name)}"
                errors.append(FileError((SECTION, name), message))
            continue
        prior = _prior(by_name[name], entry)
        if isinstance(prior, Prior):
            priors.append(prior)
        else:
            errors.append(prior)
    return tuple(priors)


def _prior(hparam: Hyperparameter, entry: Mapping[Value, Value]) -> Prior | FileError:
    path = (SECTION, hparam.name)
    if len(set(hparam.values)) == 1:
        return FileError(path, "it has a single value in this space; remove its prior")
    is_range = hparam.kind in RANGES
    if not is_range and "around" not in entry:
        return _choice_prior(hparam, entry)
    if not is_range and not all(_is_number(value) for value in hparam.values):
        return FileError((*path, "around"), f"its values are no numbers; {_weights_advice(hparam)}")
    for key, value in entry.items():
        if key not in KEYS:
            return FileError((*path, key), f"unknown key{candidates(key, KEYS)}")
        if not _is_number(value):
            return FileError((*path, key), f"{value!r} is not a number")
    return _number_prior(hparam, {str(key): float(value) for key, value in entry.items()})


def _number_prior(hparam: Hyperparameter, entry: Mapping[str, float]) -> Prior | FileError:
    path = (SECTION, hparam.name)
    around, factor, deviation = (entry.get(key) for key in KEYS)
    if around is None or (factor is None) == (deviation is None):
        return FileError(path, "give `around`, and either `factor` or `deviation`")
    low, high = min(map(float, hparam.values)), max(map(float, hparam.values))
    if not low <= around <= high:
        return FileError((*path, "around"), f"{around:g} is outside {low:g} to {high:g}")
    error = _factor_error(factor, low) or _deviation_error(deviation, hparam)
    if error:
        return FileError((*path, "deviation" if factor is None else "factor"), error)
    return Prior(hparam.name, around, factor, deviation)


def _factor_error(factor: float | None, low: float) -> str:
    """Return why `factor` is rejected for a hyperparameter of which `low` is the lowest value."""
    if factor is not None and not 1 < factor <= MAX_WEIGHT:
        return f"{factor:g} is not a factor; give a number above 1, such as 3"
    if factor is not None and low <= 0:
        return "its values are not all positive; give `deviation`"
    return ""


def _deviation_error(deviation: float | None, hparam: Hyperparameter) -> str:
    """Return why the standard deviation is rejected for `hparam`."""
    if deviation is not None and hparam.kind.startswith("log"):
        return "its range is logarithmic; give `factor`"
    if deviation is not None and not 0 < deviation <= MAX_NUMBER:
        return f"{deviation:g} is not a standard deviation; give a positive number"
    return ""


def _choice_prior(hparam: Hyperparameter, entry: Mapping[Value, Value]) -> Prior | FileError:
    path = (SECTION, hparam.name)
    for value, weight in entry.items():
        if value not in hparam.values:
            values = ", ".join(map(str, hparam.values))
            return FileError((*path, value), f"{value!r} is not one of {values}")
        if not _is_number(weight) or not 1 / MAX_WEIGHT <= float(weight) <= MAX_WEIGHT:
            return FileError(
                (*path, value),
                f"{weight!r} is no weight; give a positive number up to {MAX_WEIGHT:g}, 1 for a"
                " value without an expectation",
            )
    if not entry:
        return FileError(path, f"it is empty; {_weights_advice(hparam)}")
    weights = [(value, float(entry[value])) for value in hparam.values if value in entry]
    return Prior(hparam.name, weights=tuple(weights))


def _weights_advice(hparam: Hyperparameter) -> str:
    return f"give a weight for some, such as {{{hparam.values[-1]}: 3}}"


def _is_number(value: object) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and math.isfinite(float(str(value)))


def prior_errors(space: Space) -> Iterator[str]:
    """Yield what priors of a stored plan, which may be forged, no space file has."""
    by_name = {hparam.name: hparam for hparam in space.hparams}
    for prior in space.prior:
        hparam = by_name.get(prior.name)
        entry: dict[Value, Value] = dict(prior.weights)
        if prior.around is not None:
            spread = {"factor": prior.factor, "deviation": prior.deviation}
            entry = {"around": prior.around}
            entry |= {name: value for name, value in spread.items() if value is not None}
        if hparam is None or _prior(hparam, entry) != prior:
            yield f"its prior of {prior.name[:100]!r} is not valid"
