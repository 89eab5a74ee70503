"""From a YAML file to a checked `Space`, with all its faults in one message."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from raysearch.config.hyperparameter_section import knobs_in
from raysearch.config.points import constraint_faults, points_of, too_narrow
from raysearch.config.resources_section import resources_of
from raysearch.config.sections import (
    budget_of,
    ceilings_of,
    crowning_of,
    folders_of,
    name_of,
    objective_of,
    sampling_of,
    stopping_of,
    studies_of,
    texts_of,
    validation_of,
    whole,
)
from raysearch.config.settings import KEYS
from raysearch.config.space import Space
from raysearch.config.usage_checks import condition_faults, unread_knobs
from raysearch.config.yaml_loader import load_tree, placed
from raysearch.data.files import refuse_login
from raysearch.data.shards.shard_manifest import LABEL
from raysearch.errors import SpaceError


def read_space(path: str | Path) -> Space:
    """The checked space in the YAML file at `path`; SpaceError with every fault of the file."""
    return parse_space(load_tree(path), str(path))


def parse_space(tree: object, origin: str) -> Space:
    """The checked space in the parsed YAML `tree`; SpaceError with every fault of it."""
    if not isinstance(tree, dict):
        raise SpaceError(f"{origin}: holds no settings; write at least `epochs`, `trials`, `space`")
    faults = [
        f"{key}: no such setting; the settings are {', '.join(KEYS)}"
        for key in tree
        if key not in KEYS
    ]
    told = tree | {key: placed(tree[key]) for key in ("space", "points") if key in tree}
    space, written = _space(told, faults)
    faults += condition_faults(space, written)
    if "auxiliary_weight" in written and not space.auxiliary:
        faults.append("space.auxiliary_weight: nothing reads it without `auxiliary` shards")
    most = max(map(int, space.values_of("head_epochs", 0)))
    if most >= space.epochs:
        faults.append(
            f"space.head_epochs: {most} of the {space.epochs} epochs leave none for all layers;"
            f" give {space.epochs - 1} or fewer"
        )
    if "head_learning_rate" in written and not most:
        faults.append("space.head_learning_rate: nothing reads it without `head_epochs`; remove it")
    faults += constraint_faults(space, written)
    # These two ask the whole space, and would repeat what is wrong with a part of it.
    if not faults:
        faults += unread_knobs(space)
    if not faults:
        faults += too_narrow(space)
    faults = list(dict.fromkeys(faults))
    if faults:
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise SpaceError(f"{origin}: {count}: " + "; ".join(faults))
    return space


def _space(tree: dict[str, Any], faults: list[str]) -> tuple[Space, frozenset[str]]:
    """What the sections say, and the knobs that are written there, good or not."""
    metric, mode = objective_of(tree, faults)
    epochs = whole(tree, "epochs", 10, 1, faults)
    resources = resources_of(tree, faults)
    knobs, written = knobs_in(tree.get("space"), faults)
    fresh_seeds, champion = crowning_of(tree, faults)
    space = Space(
        knobs=knobs,
        metric=metric,
        mode=mode,
        epochs=epochs,
        trials=whole(tree, "trials", 20, 1, faults),
        seed=whole(tree, "seed", 0, 0, faults),
        stopping=stopping_of(tree, epochs, faults),
        resources=resources,
        data=_data(tree.get("data"), faults),
        task=name_of(tree, "task", faults) or LABEL,
        split=name_of(tree, "split", faults),
        validation=validation_of(tree, written, faults),
        auxiliary=folders_of(tree, faults),
        sampling=sampling_of(tree, faults),
        budget=budget_of(tree, resources, mode, faults),
        points=points_of(tree, knobs, written, faults),
        constraints=texts_of(tree, "constraints", "a text such as 'width <= 64'", faults),
        ceilings=ceilings_of(tree, faults),
        warm_start=studies_of(tree, faults),
        fresh_seeds=fresh_seeds,
        champion=champion,
    )
    return space, written


def _data(value: object, faults: list[str]) -> str | None:
    if value is None or isinstance(value, str):
        refuse_login(value or "")
        return value
    faults.append("data: not a text; give a folder of shards or synthetic:PATIENTS:PATCHES:SEED")
    return None
