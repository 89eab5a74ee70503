"""What a trial takes of a machine, and what machines cost, as a search-space file says it."""

from __future__ import annotations

from raysearch.config.names import NAME
from raysearch.config.sections import Tree, section_of
from raysearch.config.settings import PRICE
from raysearch.config.space import Resources


def resources_of(tree: Tree, errors: list[str]) -> Resources:
    """What a trial takes, and what machines cost."""
    section = section_of(tree, "resources", ("cpus", "gpus", "prices"), errors)
    return Resources(
        _cpus(section.get("cpus", 1.0), errors),
        _gpus(section.get("gpus", 0.0), errors),
        _prices(section.get("prices", {}), errors),
    )


def _cpus(value: object, errors: list[str]) -> float:
    good = isinstance(value, (int, float)) and not isinstance(value, bool)
    number = float(str(value)) if good else 0.0
    if 0 < number <= 1024 and (number < 1 or number == int(number)):
        return number
    errors.append(
        f"resources.cpus: {value!r}; a trial takes whole cores, 1 to 1024, or a share of one:"
        " give such a number above 0"
    )
    return 1.0


def _gpus(value: object, errors: list[str]) -> float:
    good = isinstance(value, (int, float)) and not isinstance(value, bool)
    if good and 0 <= float(str(value)) <= 1:
        return float(str(value))
    errors.append(
        f"resources.gpus: {value!r}; a trial takes one GPU, a share of it, or none: give 0 to 1"
    )
    return 0.0


def _prices(found: object, errors: list[str]) -> tuple[tuple[str, float], ...]:
    if not isinstance(found, dict):
        errors.append(f"resources.prices: {found!r} is not `node type: dollars an hour`")
        return ()
    named = {}
    for name, price in found.items():
        error = PRICE.error(price)
        if not isinstance(name, str) or not NAME.fullmatch(name):
            errors.append(f"resources.prices: {name!r} is not the name of a node type")
        elif error:
            errors.append(f"resources.prices.{name}: {error}")
        else:
            named[name] = float(price)
    return tuple(sorted(named.items()))
