"""The checked sections of a search-space file, other than its hyperparameters."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from raysearch.config.bounds import Limits
from raysearch.config.names import NAME
from raysearch.config.settings import (
    BUDGET,
    CEILINGS,
    CHAMPION,
    FRESH_SEEDS,
    MOST,
    SAMPLERS,
    STOPPING,
    VALIDATIONS,
)
from raysearch.config.space import FOLDS, Budget, Ceiling, Resources, Sampling, Stopping, Value
from raysearch.data.files import reject_login
from raysearch.data.splits.split_creation import holdout_name, holdouts_of
from raysearch.metrics.classification import METRICS

Tree = Mapping[str, Any]
PAIRED = 0.1
# A trial is compared from a tenth of the epochs on, but not before so many, or half of fewer: the
# first one or two tell little of where a schedule ends.
GRACE = 3


def section_of(tree: Tree, name: str, keys: tuple[str, ...], errors: list[str]) -> dict[str, Any]:
    """The section `name` of `tree`, with an error for each setting of it that is none of `keys`."""
    found = tree.get(name, {})
    if not isinstance(found, dict):
        errors.append(f"{name}: {found!r} is not a section; it holds {', '.join(keys)}")
        return {}
    errors += [
        f"{name}.{key}: no such setting; {name} holds {', '.join(keys)}"
        for key in found
        if key not in keys
    ]
    return found


def whole(tree: Tree, key: str, default: int, low: int, errors: list[str]) -> int:
    """The whole number `key` of `tree`, at least `low`."""
    value = tree.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= MOST:
        errors.append(f"{key}: {value!r} is not a whole number of at least {low}")
        return default
    return value


def name_of(tree: Tree, key: str, errors: list[str]) -> str | None:
    """The name that `key` gives, if it does."""
    value = tree.get(key)
    if value is None or (isinstance(value, str) and NAME.fullmatch(value)):
        return value
    errors.append(f"{key}: {value!r} is not a name; use letters, digits, '.', '_' and '-'")
    return None


def validation_of(tree: Tree, written: Collection[str], errors: list[str]) -> str:
    """The scheme of folds; one other than `folds` has its own number of them."""
    value = tree.get("validation", FOLDS)
    held = holdouts_of(str(value).removeprefix("holdout-"))
    if held is not None and str(value).startswith("holdout-"):
        value = holdout_name(held)
    elif value not in VALIDATIONS:
        known = ", ".join(VALIDATIONS)
        errors.append(f"validation: {value!r} is unknown; one of {known}, or such as holdout-5x0.2")
        return FOLDS
    if value != FOLDS and "folds" in written:
        errors.append(f"space.folds: validation {value} has folds of its own; remove one of them")
    return str(value)


def objective_of(tree: Tree, errors: list[str]) -> tuple[str, Any]:
    """The metric and whether it is maximised."""
    section = section_of(tree, "objective", ("metric", "mode"), errors)
    metric = section.get("metric", "auroc")
    if not isinstance(metric, str) or metric not in METRICS:
        known = ", ".join(METRICS)
        errors.append(f"objective.metric: {metric!r} is never reported; one of {known}")
        return "auroc", METRICS["auroc"]
    right, mode = METRICS[metric], section.get("mode", METRICS[metric])
    if mode != right:
        errors.append(f"objective.mode: {mode!r} for {metric}; {metric} is better at its {right}")
    return metric, right


def sampling_of(tree: Tree, errors: list[str]) -> Sampling:
    """Who proposes: a name, or a section with `name` and the sampler's own options."""
    found = tree.get("sampler", Sampling().name)
    section = {"name": found} if isinstance(found, str) else found
    if not isinstance(section, dict):
        errors.append(f"sampler: {found!r} is not a sampler; one of {', '.join(SAMPLERS)}")
        return Sampling()
    name = section.get("name")
    if not isinstance(name, str) or name not in SAMPLERS:
        errors.append(f"sampler: {name!r} is unknown; one of {', '.join(SAMPLERS)}")
        return Sampling()
    given = {key: value for key, value in section.items() if key != "name"}
    options = SAMPLERS[name]
    holds = ", ".join(options) or "nothing"
    errors += [
        f"sampler.{key}: no such option; {name} takes {holds}"
        for key in given
        if key not in options
    ]
    values = _checked(given, "sampler", options, errors)
    if values.get("group") and values.get("multivariate") is False:
        errors.append("sampler.group: it groups what is drawn together; set multivariate: true")
    return Sampling(name, tuple(values.items()))


def stopping_of(tree: Tree, epochs: int, errors: list[str]) -> Stopping:
    """How weak trials end early, for `epochs` a fold."""
    values = _section(tree, "stopping", STOPPING, errors)
    values.setdefault("grace", max(1, round(epochs / 10), min(GRACE, epochs // 2)))
    # Without a rule nobody ends a trial, unless told to.
    values.setdefault("paired", 0.0 if values.get("rule") == "none" else PAIRED)
    if values["grace"] > epochs:
        errors.append(f"stopping.grace: {values['grace']} is beyond the {epochs} epochs")
    return Stopping(**values)


def budget_of(tree: Tree, resources: Resources, mode: str, errors: list[str]) -> Budget:
    """What the study may take in all."""
    values = _section(tree, "budget", BUDGET, errors)
    if "dollars" in values and not resources.prices:
        errors.append(
            "budget.dollars: no machine has a price; give resources.prices, as"
            " {g5.xlarge: 1.01}, in dollars an hour"
        )
    if mode == "max" and values.get("target", 0) > 1:
        errors.append(f"budget.target: {values['target']:g} is never reached; 1 is the highest")
    return Budget(**values)


def ceilings_of(tree: Tree, errors: list[str]) -> tuple[Ceiling, ...]:
    """What a trial's net may have at most."""
    values = _section(tree, "ceilings", CEILINGS, errors)
    return tuple(Ceiling(name, most) for name, most in values.items())


def crowning_of(tree: Tree, errors: list[str]) -> tuple[int, Any]:
    """How many fresh seeds judge the champion again, and what it is made of."""
    asked = {key: tree[key] for key in ("repeats", "champion") if key in tree}
    for key, limits in (("repeats", FRESH_SEEDS), ("champion", CHAMPION)):
        error = limits.error(asked[key]) if key in asked else None
        if error:
            errors.append(f"{key}: {error}")
            del asked[key]
    seeds, kind = asked.get("repeats", 1), asked.get("champion", "refit")
    if kind == "ensemble" and not seeds:
        errors.append("champion: an ensemble is of a fresh seed's nets; give repeats 1 or more")
    return seeds, kind


def _section(
    tree: Tree, name: str, settings: Mapping[str, Limits], errors: list[str]
) -> dict[str, Any]:
    return _checked(section_of(tree, name, tuple(settings), errors), name, settings, errors)


def _checked(
    given: Tree, prefix: str, settings: Mapping[str, Limits], errors: list[str]
) -> dict[str, Any]:
    """What of `given` is as `settings` want it, in their order: that of a file does not matter."""
    good: dict[str, Value] = {}
    for key, limits in settings.items():
        if key not in given:
            continue
        error = limits.error(given[key])
        if error:
            errors.append(f"{prefix}.{key}: {error}")
        else:
            good[key] = float(given[key]) if limits.kind is float else given[key]
    return good


def texts_of(tree: Tree, key: str, what: str, errors: list[str]) -> tuple[str, ...]:
    """The texts that `key` lists, each once; one alone needs no list."""
    value = tree.get(key)
    found = [value] if isinstance(value, str) else value
    if found is None:
        return ()
    if not isinstance(found, list) or not all(isinstance(one, str) and one for one in found):
        errors.append(f"{key}: not {what}, nor a list of them")
        return ()
    if len(set(found)) < len(found):
        errors.append(f"{key}: {what} stands there twice")
    return tuple(found)


def folders_of(tree: Tree, errors: list[str]) -> tuple[str, ...]:
    """The folders of auxiliary shards."""
    found = texts_of(tree, "auxiliary", "a folder of shards", errors)
    for one in found:
        reject_login(one)
    return found


def studies_of(tree: Tree, errors: list[str]) -> tuple[str, ...]:
    """The studies to begin with what they learned."""
    found = texts_of(tree, "warm_start", "a study's name", errors)
    errors += [
        f"warm_start: {one!r} is not a study's name; use letters, digits, '.', '_' and '-'"
        for one in found
        if not NAME.fullmatch(one)
    ]
    return found
