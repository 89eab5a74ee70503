"""A JSON schema of search-space files, for editors: a mistake shows while it is typed.

It tells less than the reader of these files: nothing about one hyperparameter beside another.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from raysearch.config.bounds import Limits
from raysearch.config.names import NAME
from raysearch.config.settings import (
    BUDGET,
    CEILINGS,
    CHAMPION,
    FRESH_SEEDS,
    MOST,
    PRICE,
    SAMPLERS,
    STOPPING,
    VALIDATIONS,
)
from raysearch.metrics.classification import METRICS
from raysearch.training.components import LIMITS

Schema = dict[str, Any]
WIDTH = 100
DESCRIPTIONS = {
    "data": "A folder of shards, or synthetic:PATIENTS:PATCHES:SEED.",
    "task": "What is learned, where the shards have several tasks.",
    "split": "A split manifest of the shards other than the task's own.",
    "validation": "The split manifest's scheme: folds (the hyperparameter says how many), or one with its own.",
    "objective": "The metric, as its mean over the folds.",
    "epochs": "Epochs a fold.",
    "trials": "How many configurations are tried.",
    "seed": "The same seed proposes the same first configurations.",
    "resources": "What a trial takes, and what a machine costs an hour.",
    "sampler": "Who proposes configurations.",
    "stopping": "How weak trials end early.",
    "budget": "What the whole study may take; the first limit reached ends it.",
    "points": "Configurations that are tried first; the sampler fills in what they leave out.",
    "constraints": "Expressions over the hyperparameters, such as width * convolutions <= 64.",
    "ceilings": "What a trial's net may have at most.",
    "warm_start": "Earlier studies of the same space.",
    "auxiliary": "Further shards that are only learned from.",
    "repeats": "How often the champion is trained over its folds again, with other seeds.",
    "champion": "One net of all patients, or the nets of a fresh seed's folds, averaged.",
    "space": "The hyperparameters: a value, a choice or a range each.",
}


def schema_text() -> str:
    """The schema as it is stored: what fits a line stands on one."""
    return _lines(schema(), "") + "\n"


def _lines(value: object, indent: str) -> str:
    text = json.dumps(value, allow_nan=False)
    if len(indent + text) <= WIDTH or not isinstance(value, dict | list):
        return text
    deeper, (first, last) = indent + " ", "{}" if isinstance(value, dict) else "[]"
    if isinstance(value, dict):
        parts = [f"{json.dumps(key)}: {_lines(one, deeper)}" for key, one in value.items()]
    else:
        parts = [_lines(one, deeper) for one in value]
    inner = ",\n".join(deeper + part for part in parts)
    return f"{first}\n{inner}\n{indent}{last}"


def schema() -> Schema:
    """The JSON schema (draft 7) of a search-space file."""
    settings = _settings()
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "A search space of raysearch",
        **_object({key: {"description": DESCRIPTIONS[key], **settings[key]} for key in settings}),
        "required": ["space"],
        "definitions": {
            **{name: _value(limits) for name, limits in LIMITS.items()},
            "hparams": _object({name: _hparam(name, limits) for name, limits in LIMITS.items()}),
            "when": _object({name: _one_or_several(_ref(name), minItems=1) for name in LIMITS}),
        },
    }


def _settings() -> dict[str, Schema]:
    name = {"type": "string", "pattern": f"^{NAME.pattern}$"}
    text = {"type": "string", "minLength": 1}
    objective = {"metric": {"enum": list(METRICS)}, "mode": {"enum": ["max", "min"]}}
    fraction = {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}
    resources = {
        "cpus": {"anyOf": [_value(Limits(int, 1, 1024)), fraction]},
        "gpus": _value(Limits(float, 0, 1)),
        "prices": {
            "type": "object",
            "propertyNames": name,
            "additionalProperties": _value(PRICE),
        },
    }
    point = {**_object({name: _ref(name) for name in LIMITS}), "minProperties": 1}
    return {
        "data": {"type": "string"},
        "task": name,
        "split": name,
        "validation": {
            "anyOf": [{"enum": list(VALIDATIONS)}, {"pattern": r"^holdout-\d+x0?\.\d+$"}]
        },
        "objective": _object(objective),
        "epochs": _value(Limits(int, 1, MOST)),
        "trials": _value(Limits(int, 1, MOST)),
        "seed": _value(Limits(int, 0, MOST)),
        "resources": _object(resources),
        "sampler": _sampler(),
        "stopping": _limited(STOPPING),
        "budget": _limited(BUDGET),
        "points": {"type": "array", "items": point, "uniqueItems": True},
        "constraints": _one_or_several(text, uniqueItems=True),
        "ceilings": _limited(CEILINGS),
        "warm_start": _one_or_several(name, uniqueItems=True),
        "auxiliary": _one_or_several(text, uniqueItems=True),
        "repeats": _value(FRESH_SEEDS),
        "champion": _value(CHAMPION),
        "space": {**_ref("hparams", beside=True), "minProperties": 1},
    }


def _sampler() -> Schema:
    names = {"enum": list(SAMPLERS)}
    options = [
        {
            "if": {"properties": {"name": {"const": name}}},
            "then": _object({"name": {}, **{key: _value(one) for key, one in found.items()}}),
        }
        for name, found in SAMPLERS.items()
    ]
    section = {"properties": {"name": names}, "required": ["name"], "allOf": options}
    return {"if": {"type": "object"}, "then": section, "else": names}


def _hparam(name: str, limits: Limits) -> Schema:
    """A value, or a section with one of the kinds; `if` keeps an editor's messages to one."""
    value = _ref(name)
    kinds: dict[str, Schema] = {
        "value": value,
        "choice": {
            "if": {"type": "object"},
            "then": {**_choices(limits), "minProperties": 1},
            "else": {"type": "array", "items": value, "minItems": 1, "uniqueItems": True},
        },
    }
    pair = {"type": "array", "minItems": 2, "maxItems": 2}
    ranges = {int: ("int", "logint"), float: ("uniform", "loguniform")}
    for kind in ranges.get(limits.kind, ()):
        above = {"exclusiveMinimum": 0} if kind.startswith("log") else {}
        kinds[kind] = {**pair, "items": {"allOf": [value, above]} if above else value}
    section = {
        **_object({**kinds, "when": _ref("when")}),
        "oneOf": [{"required": [kind]} for kind in kinds],
    }
    return {"if": {"type": "object"}, "then": section, "else": value}


def _choices(limits: Limits) -> Schema:
    """A mapping from values to the hyperparameters that exist under them."""
    inner = {"anyOf": [_ref("hparams"), {"type": "null"}]}
    if limits.kind in (int, float):
        return {"additionalProperties": inner, "propertyNames": {"pattern": "^[-+.0-9eE]+$"}}
    if limits.endings or limits.prefix:
        return {"additionalProperties": inner}
    names = limits.names if limits.kind is str else ("true", "false")
    return _object(dict.fromkeys(names, inner))


def _value(limits: Limits) -> Schema:
    if limits.endings or limits.prefix:
        endings = "|".join(ending.replace(".", r"\.") for ending in limits.endings)
        open_ended = f"({endings})$" if endings else f"^{limits.prefix}"
        return {"anyOf": [{"enum": list(limits.names)}, {"pattern": open_ended}]}
    if limits.kind is str:
        return {"enum": list(limits.names)}
    if limits.kind is bool:
        return {"type": "boolean"}
    kind = "integer" if limits.kind is int else "number"
    return {"type": kind, "minimum": limits.low, "maximum": limits.high}


def _limited(settings: Mapping[str, Limits]) -> Schema:
    return _object({name: _value(limits) for name, limits in settings.items()})


def _object(properties: Mapping[str, Schema]) -> Schema:
    return {"type": "object", "properties": dict(properties), "additionalProperties": False}


def _one_or_several(one: Schema, **asked: object) -> Schema:
    several = {"type": "array", "items": one, **asked}
    return {"if": {"type": "array"}, "then": several, "else": one}


def _ref(name: str, *, beside: bool = False) -> Schema:
    """A reference; in draft 7 nothing may stand beside it, but in an `allOf`."""
    reference = {"$ref": f"#/definitions/{name}"}
    return {"allOf": [reference]} if beside else reference
