"""From a YAML file to a checked `Space`, with all its errors in one message."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from raysearch.config.hyperparameter_section import hparams_in
from raysearch.config.points import constraint_errors, points_of, too_narrow
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
from raysearch.config.usage_checks import condition_errors, unread_hparams
from raysearch.config.yaml_loader import load_tree, placed
from raysearch.data.files import reject_login
from raysearch.data.shards.shard_manifest import LABEL
from raysearch.errors import SpaceError


def read_space(path: str | Path) -> Space:
    """The checked space in the YAML file at `path`; SpaceError with every error of the file."""
    return parse_space(load_tree(path), str(path))


def parse_space(tree: object, origin: str) -> Space:
    """The checked space in the parsed YAML `tree`; SpaceError with every error of it."""
    if not isinstance(tree, dict):
        raise SpaceError(f"{origin}: holds no settings; write at least `epochs`, `trials`, `space`")
    errors = [
        f"{key}: no such setting; the settings are {', '.join(KEYS)}"
        for key in tree
        if key not in KEYS
    ]
    told = tree | {key: placed(tree[key]) for key in ("space", "points") if key in tree}
    space, written = _space(told, errors)
    errors += condition_errors(space, written)
    if "auxiliary_weight" in written and not space.auxiliary:
        errors.append("space.auxiliary_weight: nothing reads it without `auxiliary` shards")
    most = max(map(int, space.values_of("head_epochs", 0)))
    if most >= space.epochs:
        errors.append(
            f"space.head_epochs: {most} of the {space.epochs} epochs leave none for all layers;"
            f" give {space.epochs - 1} or fewer"
        )
    if "head_learning_rate" in written and not most:
        errors.append("space.head_learning_rate: nothing reads it without `head_epochs`; remove it")
    errors += constraint_errors(space, written)
    # These two ask the whole space, and would repeat what is wrong with a part of it.
    if not errors:
        errors += unread_hparams(space)
    if not errors:
        errors += too_narrow(space)
    errors = list(dict.fromkeys(errors))
    if errors:
        count = "1 error" if len(errors) == 1 else f"{len(errors)} errors"
        raise SpaceError(f"{origin}: {count}: " + "; ".join(errors))
    return space


def _space(tree: dict[str, Any], errors: list[str]) -> tuple[Space, frozenset[str]]:
    """What the sections say, and the hyperparameters that are written there, good or not."""
    metric, mode = objective_of(tree, errors)
    epochs = whole(tree, "epochs", 10, 1, errors)
    resources = resources_of(tree, errors)
    hparams, written = hparams_in(tree.get("space"), errors)
    repeats, champion = crowning_of(tree, errors)
    space = Space(
        hparams=hparams,
        metric=metric,
        mode=mode,
        epochs=epochs,
        trials=whole(tree, "trials", 20, 1, errors),
        seed=whole(tree, "seed", 0, 0, errors),
        stopping=stopping_of(tree, epochs, errors),
        resources=resources,
        data=_data(tree.get("data"), errors),
        task=name_of(tree, "task", errors) or LABEL,
        split=name_of(tree, "split", errors),
        validation=validation_of(tree, written, errors),
        auxiliary=folders_of(tree, errors),
        sampling=sampling_of(tree, errors),
        budget=budget_of(tree, resources, mode, errors),
        points=points_of(tree, hparams, written, errors),
        constraints=texts_of(tree, "constraints", "a text such as 'width <= 64'", errors),
        ceilings=ceilings_of(tree, errors),
        warm_start=studies_of(tree, errors),
        repeats=repeats,
        champion=champion,
    )
    return space, written


def _data(value: object, errors: list[str]) -> str | None:
    if value is None or isinstance(value, str):
        reject_login(value or "")
        return value
    errors.append("data: not a text; give a folder of shards or synthetic:PATIENTS:PATCHES:SEED")
    return None
