"""Reads state dictionaries as people save them: nested, with prefixes, with another head."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import cast

import torch
from safetensors.torch import load, save
from torch import Tensor

from raysearch.data.files import Folder, open_regular
from raysearch.errors import DataError, SpaceError, first_line
from raysearch.models.tensor_files import is_state_dict, load_tensors

SAFETENSORS = ".safetensors"
# The entries under which training programs keep a state dictionary, the preferred ones first.
CONTAINERS = ("state_dict", "model_state_dict", "model", "teacher", "encoder", "network")
# Layers of another task: classifiers, heads of self-supervised training, auxiliary heads.
OTHER_HEADS = (
    *("head.", "heads.", "fc.", "classifier.", "last_linear.", "pooler.", "aux1.", "aux2."),
    *("AuxLogits.", "dino_head.", "ibot_head.", "mask_token"),
)
NUM_NAMED = 3
# No layer has a longer name.
MAX_NAME_LENGTH = 1000

StateDict = dict[str, Tensor]


def read_state_dict(path: Path, weights: str) -> StateDict:
    """Read the state dictionary of a file, of which nothing but tensors is unpickled.

    Args:
        path: A file of safetensors, or one that `torch.save` wrote.
        weights: The value of the hyperparameter, for messages.

    Raises:
        DataError: If the file is missing or damaged, or has no state dictionary of finite numbers.
    """
    try:
        with open_regular(path) as file:
            content = load(file.read()) if path.suffix == SAFETENSORS else load_tensors(file)
    except FileNotFoundError:
        raise DataError(
            f"weights {weights}: no such file; give one, `imagenet` or `none`"
        ) from None
    except DataError as error:
        raise DataError(f"weights {error}") from None
    except Exception as error:  # safetensors raises its own classes
        raise DataError(
            f"weights {weights}: cannot be read ({first_line(error, 100)}); save a state dictionary"
            " with torch.save"
        ) from None
    state = _contained_state(content)
    if state is None:
        raise DataError(f"weights {weights}: holds no state dictionary; save net.state_dict()")
    for name, value in state.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise DataError(
                f"weights {weights}: {name} has numbers that are not finite; give another file"
            )
    return state


def write_state_dict(state: Mapping[str, Tensor], path: Path) -> None:
    """Write a state dictionary atomically, by safetensors or torch after the suffix of `path`."""
    content = io.BytesIO()
    if path.suffix == SAFETENSORS:
        content.write(save({name: value.contiguous() for name, value in state.items()}))
    else:
        torch.save(dict(state), content)
    Folder(str(path.parent)).write(path.name, content.getvalue())


def _contained_state(content: object) -> StateDict | None:
    """Return the state dictionary in `content`, however it is nested; None if there is none."""
    for _level in range(len(CONTAINERS)):
        if is_state_dict(content) and content:
            return dict(cast("StateDict", content))
        if not isinstance(content, Mapping):
            return None
        content = next((content[name] for name in CONTAINERS if name in content), None)
    return None


def without_prefix(state: StateDict, expected: Collection[str]) -> StateDict:
    """Return the entries of `state` that belong to a network, without their common prefix.

    The prefix, such as `module.backbone.`, is the one under which most names of the network are
    found. What is outside of it, such as the head of self-supervised training, is left out.

    Args:
        state: The stored state dictionary.
        expected: The names of the entries of the network.
    """
    prefixes: Counter[str] = Counter()
    for name in state:
        if len(name) > MAX_NAME_LENGTH:
            continue
        parts = name.split(".")
        for start in range(len(parts)):
            if ".".join(parts[start:]) in expected:
                prefixes[".".join([*parts[:start], ""])] += 1
    if not prefixes:
        return state
    prefix = max(prefixes, key=lambda each: (prefixes[each], -len(each)))
    return {
        name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)
    }


def without_head(state: Mapping[str, Tensor], head: str) -> StateDict:
    """Return `state` without the layer named `head`; `head` is empty if there is none."""
    return {
        name: value for name, value in state.items() if not head or not name.startswith(f"{head}.")
    }


def matching_state(
    state: Mapping[str, Tensor], expected: Mapping[str, Tensor], head: str, message: str
) -> StateDict:
    """Return the entries of `state` for all layers of a network but its head.

    Args:
        state: The stored state dictionary, without a prefix.
        expected: The state dictionary of the network.
        head: The name of the network's head.
        message: The beginning of the error message.

    Raises:
        SpaceError: If entries are missing, unexpected or of another shape; some of each are named.
    """
    body, stored = without_head(expected, head), without_head(state, head)
    missing = sorted(body.keys() - stored.keys())
    unexpected = sorted(
        name for name in stored.keys() - body.keys() if not name.startswith(OTHER_HEADS)
    )
    misshapen = [
        f"{name} {tuple(stored[name].shape)} instead of {tuple(value.shape)}"
        for name, value in body.items()
        if name in stored and stored[name].shape != value.shape
    ]
    differences = [
        f"{len(names)} {kind}: {', '.join(names[:NUM_NAMED])}"
        for kind, names in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape", misshapen),
        )
        if names
    ]
    if differences:
        raise SpaceError(f"{message} ({'; '.join(differences)}); give a file of that architecture")
    return {name: stored[name] for name in body}
