"""From a YAML file to a checked `Space`, with all its faults in one message."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from raysearch.data.files import refuse_login
from raysearch.data.manifest import LABEL
from raysearch.errors import SpaceError
from raysearch.scores.metrics import METRICS
from raysearch.search.space import RANGES, Knob, Resources, Space, Stopping, Value, unread_knobs
from raysearch.training.parts import DEFAULTS, LIMITS

MOST_BYTES = 256 * 1024
KEYS = (
    "data",
    "task",
    "split",
    "objective",
    "epochs",
    "trials",
    "seed",
    "resources",
    "stopping",
    *("auxiliary", "space"),
)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
KINDS = ("choice", *RANGES)


class _Loader(yaml.SafeLoader):
    """Safe YAML without aliases and duplicate keys, where `1e-3` is a number."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.events.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise SpaceError(f"line {mark.line + 1}: aliases (*name) are not allowed; write it out")
        node: yaml.Node | None = super().compose_node(parent, index)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _value in node.value:
            if str(key.value) in seen:
                line = key.start_mark.line + 1
                raise SpaceError(f"line {line}: {key.value!r} stands twice; keep one of them")
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def read_space(path: str | Path) -> Space:
    """The checked space in the YAML file at `path`; SpaceError with every fault of the file."""
    file = Path(path)
    if not file.is_file():
        raise SpaceError(f"{path}: no such file; give a search space such as searchspace/*.yaml")
    if file.stat().st_size > MOST_BYTES:
        raise SpaceError(f"{path}: larger than {MOST_BYTES // 1024} kB; a search space is shorter")
    try:
        tree = yaml.load(file.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 a safe loader
    except SpaceError as error:
        raise SpaceError(f"{path}: {error}") from None
    # A tag such as !!timestamp reads its text by code that raises whatever it likes.
    except Exception as error:
        raise SpaceError(f"{path}: not YAML: {_brief(error)}") from None
    return parse_space(tree, str(path))


def parse_space(tree: object, origin: str) -> Space:
    """The checked space in the parsed YAML `tree`; SpaceError with every fault of it."""
    faults: list[str] = []
    if not isinstance(tree, dict):
        raise SpaceError(f"{origin}: holds no settings; write at least `epochs`, `trials`, `space`")
    faults += [
        f"{key}: no such setting; the settings are {', '.join(KEYS)}"
        for key in tree
        if key not in KEYS
    ]
    objective = _section(tree, "objective", ("metric", "mode"), faults)
    metric = objective.get("metric", "auroc")
    if not isinstance(metric, str) or metric not in METRICS:
        faults.append(
            f"objective.metric: {metric!r} is never reported; one of {', '.join(METRICS)}"
        )
        metric, objective = "auroc", {}
    mode = objective.get("mode", METRICS[metric])
    if mode != METRICS[metric]:
        faults.append(
            f"objective.mode: {mode!r} for {metric}; {metric} is better at its {METRICS[metric]}"
        )
    epochs = _whole(tree, "epochs", 10, 1, faults)
    stopping = _section(tree, "stopping", ("grace", "reduction"), faults)
    resources = _section(tree, "resources", ("cpus", "gpus"), faults)
    data = tree.get("data")
    if data is not None and not isinstance(data, str):
        faults.append(
            "data: not a text; give a folder of shards or synthetic:PATIENTS:PATCHES:SEED"
        )
    elif data is not None:
        refuse_login(data)
    space = Space(
        knobs=_knobs(tree.get("space"), faults),
        metric=metric,
        mode=mode,
        epochs=epochs,
        trials=_whole(tree, "trials", 20, 1, faults),
        seed=_whole(tree, "seed", 0, 0, faults),
        stopping=Stopping(
            _whole(stopping, "grace", max(1, round(epochs / 10)), 1, faults, "stopping."),
            _whole(stopping, "reduction", 3, 2, faults, "stopping."),
            "asha",
        ),
        resources=Resources(
            _number(resources, "cpus", 1.0, faults), _number(resources, "gpus", 0.0, faults)
        ),
        data=data if isinstance(data, str) else None,
        task=_name(tree, "task", faults) or LABEL,
        split=_name(tree, "split", faults),
        auxiliary=_folders(tree.get("auxiliary"), faults),
    )
    faults += _cross_faults(space, faults)
    if faults:
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise SpaceError(f"{origin}: {count}: " + "; ".join(faults))
    return space


def _brief(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or type(error).__name__
    text = f"line {mark.line + 1}: {problem}" if mark else str(problem)
    if "'\\t'" in text:
        return text.split(":")[0] + ": a tab where YAML wants spaces; indent with spaces"
    return " ".join(text.split())


def _folders(value: object, faults: list[str]) -> tuple[str, ...]:
    """The folders of auxiliary shards."""
    found = [value] if isinstance(value, str) else value
    if found is None:
        return ()
    if not isinstance(found, list) or not all(isinstance(one, str) and one for one in found):
        faults.append("auxiliary: not a folder of shards, nor a list of them")
        return ()
    for one in found:
        refuse_login(one)
    if len(set(found)) < len(found):
        faults.append("auxiliary: a folder stands there twice")
    return tuple(found)


def _name(tree: Mapping[str, Any], key: str, faults: list[str]) -> str | None:
    value = tree.get(key)
    if value is None or (isinstance(value, str) and NAME.fullmatch(value)):
        return value
    faults.append(f"{key}: {value!r} is not a name; use letters, digits, '.', '_' and '-'")
    return None


def _section(
    tree: Mapping[str, Any], name: str, keys: tuple[str, ...], faults: list[str]
) -> dict[str, Any]:
    found = tree.get(name, {})
    if not isinstance(found, dict):
        faults.append(f"{name}: {found!r} is not a section; it holds {', '.join(keys)}")
        return {}
    faults += [
        f"{name}.{key}: no such setting; {name} holds {', '.join(keys)}"
        for key in found
        if key not in keys
    ]
    return found


def _whole(
    tree: Mapping[str, Any],
    key: str,
    default: int,
    low: int,
    faults: list[str],
    prefix: str = "",
) -> int:
    value = tree.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= 10**9:
        faults.append(f"{prefix}{key}: {value!r} is not a whole number of at least {low}")
        return default
    return value


def _number(tree: Mapping[str, Any], key: str, default: float, faults: list[str]) -> float:
    value = tree.get(key, default)
    good = isinstance(value, (int, float)) and not isinstance(value, bool)
    if key == "gpus" and not (good and 0 <= value <= 1):
        faults.append(
            f"resources.gpus: {value!r}; a trial takes one GPU, a share of it, or none: give 0 to 1"
        )
        return default
    if key == "cpus" and not (good and 0 < value <= 1024 and (value < 1 or value == int(value))):
        faults.append(
            f"resources.cpus: {value!r}; a trial takes whole cores, 1 to 1024, or a share of one:"
            " give such a number above 0"
        )
        return default
    return float(value)


def _knobs(section: object, faults: list[str]) -> tuple[Knob, ...]:
    if not isinstance(section, dict) or not section:
        faults.append("space: holds nothing to search; name knobs such as learning_rate")
        return ()
    found: list[Knob] = []
    for name, value in section.items():
        if name not in LIMITS:
            faults.append(f"space.{name}: nothing reads it; the knobs are {', '.join(LIMITS)}")
            continue
        knob = _knob(name, value, faults)
        if knob is not None:
            found.append(knob)
    return _ordered(found, faults)


def _knob(name: str, value: object, faults: list[str]) -> Knob | None:
    if not isinstance(value, dict):
        return _checked(name, "fixed", (value,), (), faults)
    extra = set(value) - set(KINDS) - {"when", "value"}
    kinds = [kind for kind in (*KINDS, "value") if kind in value]
    if extra or len(kinds) != 1:
        faults.append(
            f"space.{name}: {', '.join(map(str, value)) or 'nothing'}; give a value, or one of"
            f" {', '.join(KINDS)}, and `when` if need be"
        )
        return None
    kind = kinds[0]
    values = value[kind] if kind != "value" else [value[kind]]
    if not isinstance(values, list) or not values:
        faults.append(f"space.{name}.{kind}: {values!r} is not a list with values in it")
        return None
    when = _when(name, value.get("when", {}), faults)
    return _checked(name, "fixed" if kind == "value" else kind, tuple(values), when, faults)


def _when(name: str, when: object, faults: list[str]) -> tuple[tuple[str, tuple[Value, ...]], ...]:
    if not isinstance(when, dict):
        faults.append(f"space.{name}.when: {when!r} is not `other: value` or `other: [values]`")
        return ()
    return tuple(
        (str(other), tuple(values) if isinstance(values, list) else (values,))
        for other, values in when.items()
    )


def _checked(
    name: str,
    kind: Any,
    values: tuple[Any, ...],
    when: tuple[tuple[str, tuple[Value, ...]], ...],
    faults: list[str],
) -> Knob | None:
    before = len(faults)
    limits = LIMITS[name]
    for value in values:
        fault = limits.fault(value)
        if fault:
            faults.append(f"space.{name}: {fault}")
    if kind in RANGES and len(faults) == before:
        _range_faults(name, kind, values, faults)
    if kind == "choice" and len({repr(value) for value in values}) < len(values):
        faults.append(f"space.{name}.choice: a value stands twice; keep one of them")
    return Knob(name, kind, values, when) if len(faults) == before else None


def _range_faults(name: str, kind: str, values: tuple[Any, ...], faults: list[str]) -> None:
    limits = LIMITS[name]
    if limits.kind not in (int, float):
        faults.append(f"space.{name}.{kind}: not a number to range over; use choice")
    elif len(values) != 2:
        faults.append(f"space.{name}.{kind}: {list(values)} is not [low, high]")
    elif not values[0] < values[1]:
        faults.append(f"space.{name}.{kind}: {list(values)} is upside down; give [low, high]")
    elif kind in ("loguniform", "logint") and values[0] <= 0:
        faults.append(f"space.{name}.{kind}: low must be above 0")
    elif (kind in ("int", "logint")) != (limits.kind is int):
        right = "int, logint or choice" if limits.kind is int else "uniform or loguniform"
        faults.append(f"space.{name}.{kind}: {name} takes {right}")
    elif not all(math.isfinite(value) for value in values):
        faults.append(f"space.{name}.{kind}: {list(values)} is not finite")


def _ordered(knobs: list[Knob], faults: list[str]) -> tuple[Knob, ...]:
    """`knobs` in an order in which each stands after those its conditions name."""
    names = {knob.name for knob in knobs} | set(DEFAULTS)
    placed: list[Knob] = []
    waiting = list(knobs)
    while waiting:
        done = {knob.name for knob in placed} | (set(DEFAULTS) - {knob.name for knob in knobs})
        ready = [knob for knob in waiting if all(o in done or o not in names for o, _ in knob.when)]
        if not ready:
            circle = ", ".join(knob.name for knob in waiting)
            faults.append(
                f"space: the conditions of {circle} wait for each other; break the circle"
            )
            return tuple(knobs)
        placed += ready
        waiting = [knob for knob in waiting if knob not in ready]
    return tuple(placed)


def _cross_faults(space: Space, known: list[str]) -> list[str]:
    faults = []
    by_name = {knob.name: knob for knob in space.knobs}
    for knob in space.knobs:
        for other, values in knob.when:
            if other not in by_name:
                faults.append(f"space.{knob.name}.when: {other} is not in the space")
            elif by_name[other].kind in ("uniform", "loguniform"):
                faults.append(
                    f"space.{knob.name}.when: {other} is a range; conditions take choices"
                )
            else:
                allowed = space.values_of(other, "")
                faults += [
                    f"space.{knob.name}.when: {other} is never {value!r}"
                    for value in values
                    if value not in allowed
                ]
    if space.stopping.grace > space.epochs:
        faults.append(f"stopping.grace: {space.stopping.grace} is beyond the {space.epochs} epochs")
    if "auxiliary_weight" in by_name and not space.auxiliary:
        faults.append("space.auxiliary_weight: nothing reads it without `auxiliary` shards")
    if by_name.get("folds", Knob("folds", "fixed", ())).when:
        faults.append("space.folds.when: folds belong to the whole study; remove the condition")
    return faults if faults or known else list(unread_knobs(space))
