"""Weights that a net begins with: fetched once a node, or from a file, in the net's own layout.

Torchvision's and timm's own sources are asked; a file that lies in the cache already is taken
without a network.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.hub import download_url_to_file
from torchvision import models as zoo
from torchvision.models.vision_transformer import VisionTransformer, interpolate_embeddings

from raysearch.data.file_lock import locked
from raysearch.data.files import Folder
from raysearch.data.patches import cache_folder
from raysearch.errors import DataError, SpaceError
from raysearch.models.architectures.timm_models import TIMM, library, size_of
from raysearch.models.patch_shape import Shape
from raysearch.models.transfer.layer_order import head_name

NONE, IMAGENET = "none", "imagenet"
SAFE = ".safetensors"
FILES = (".pt", ".pth", SAFE)
# Torchvision trains GoogLeNet and Inception with further heads, which no net here has.
FURTHER_HEADS = ("aux1.", "aux2.", "AuxLogits.")

State = dict[str, Tensor]


def weights_folder() -> Path:
    """Where a node keeps the weights that it fetched."""
    return cache_folder() / "weights"


def load_weights(
    net: nn.Module, architecture: str, weights: str, classes: int, shape: Shape
) -> None:
    """Give `net`, an `architecture` for patches of `shape`, the weights that are asked for.

    `weights` is `none`, `imagenet` or a file; the head keeps its own, whatever classes they were
    trained for. DataError where they cannot be had, SpaceError where they are another net's.
    """
    state = reject_unfit_weights(net, architecture, weights, classes, shape)
    if state:
        net.load_state_dict({**net.state_dict(), **state})


def reject_unfit_weights(
    net: nn.Module, architecture: str, weights: str, classes: int, shape: Shape
) -> State:
    """The weights by their names in `net`, without its head's; none for `none`.

    `net` may lie on the meta device. DataError where they cannot be had on this machine, SpaceError
    where there are none or they are another net's.
    """
    if weights == NONE:
        return {}
    state, head = stored_state(net, architecture, weights, shape), head_name(net, classes)
    reject_unlike(net, state, head, f"weights {weights}: not those of {architecture}")
    return without_head(state, head)


def stored_state(net: nn.Module, architecture: str, weights: str, shape: Shape) -> State:
    """The weights by their names in the net; DataError where they cannot be read."""
    path = fetched(architecture) if weights == IMAGENET else Path(weights)
    state = read_state(path, weights)
    if architecture.startswith(TIMM) and size_of(architecture.removeprefix(TIMM), shape):
        state = _fitted_by_timm(architecture, path, shape)
    if isinstance(net, VisionTransformer) and "encoder.pos_embedding" in state:
        patch = net.patch_size
        state = dict(interpolate_embeddings(shape[0], patch, state))
    return {name: value for name, value in state.items() if not name.startswith(FURTHER_HEADS)}


def read_state(path: Path, told: str) -> State:
    """The tensors in the file at `path`, by name; DataError, saying `told`, where it is none."""
    try:
        if path.suffix == SAFE:
            return dict(load_file(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise DataError(f"weights {told}: no such file; give one, `imagenet` or `none`") from None
    except Exception as error:  # torch, zipfile, pickle and safetensors each have their own
        reason = (str(error).splitlines() or [type(error).__name__])[0][:100]
        raise DataError(
            f"weights {told}: cannot be read ({reason}); save a state dictionary with torch.save"
        ) from None
    if not isinstance(state, Mapping) or not all(isinstance(one, Tensor) for one in state.values()):
        raise DataError(f"weights {told}: holds no state dictionary; save net.state_dict()")
    return dict(state)


def write_state(net: nn.Module, path: Path) -> None:
    """Write the weights of `net` to the file at `path`, whole or not at all.

    SpaceError for an ending that is none of a file of weights.
    """
    if path.suffix not in FILES:
        raise SpaceError(f"{path}: no file of weights; name it {', '.join(FILES)}")
    _write(net.state_dict(), path)


def _write(state: Mapping[str, Tensor], path: Path) -> None:
    content = io.BytesIO()
    if path.suffix == SAFE:
        content.write(save({name: one.contiguous() for name, one in state.items()}))
    else:
        torch.save(dict(state), content)
    Folder(str(path.parent)).write(path.name, content.getvalue())


def without_head(state: State, head: str) -> State:
    """`state` without what belongs to the layer `head`."""
    if not head:
        return state
    return {name: value for name, value in state.items() if not name.startswith(f"{head}.")}


def reject_unlike(net: nn.Module, state: State, head: str, told: str) -> None:
    """SpaceError, beginning with `told`, where `state` is not what `net` has, but for its head."""
    wanted = without_head(net.state_dict(), head)
    found = without_head(state, head)
    lacking, foreign = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    if lacking or foreign:
        first = f"{lacking[0]} is missing" if lacking else f"{foreign[0]} is none of its layers"
        more = len(lacking) + len(foreign) - 1
        raise SpaceError(f"{told} ({first}, and {more} more); give a file of that architecture")
    for name, value in wanted.items():
        if found[name].shape != value.shape:
            sizes = f"{tuple(found[name].shape)} instead of {tuple(value.shape)}"
            raise SpaceError(f"{told} ({name} is {sizes}); give a file of the same net")


def fetched(architecture: str) -> Path:
    """The file of the ImageNet weights of `architecture`, fetched where this node has it not yet.

    SpaceError where there are none; DataError where they cannot be fetched, with the file that is
    wanted and where to put it.
    """
    if architecture.startswith(TIMM):
        own = architecture.removeprefix(TIMM)
        path = weights_folder() / f"{own}{SAFE}"
        return _once(path, f"timm's {own}", lambda: _fetch_by_timm(own, path))
    if architecture not in zoo.list_models():
        raise SpaceError(
            f"weights imagenet: {architecture} has none; choose `none`, a file, or another"
            " architecture"
        )
    url = zoo.get_model_weights(architecture).DEFAULT.url
    return fetch(url, weights_folder() / url.rpartition("/")[2])


def fetch(url: str, path: Path) -> Path:
    """`path`, fetched from `url` where it is not there yet: once, whoever else asks."""

    def get() -> None:
        # Written beside, checked against the hash in its name, and moved when whole.
        download_url_to_file(url, str(path), _hash_in(path.name), progress=False)

    return _once(path, url, get)


def _once(path: Path, source: str, get: Callable[[], None]) -> Path:
    """`path`, by `get` where it is not there yet; DataError where `source` does not give it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.with_name(f"{path.name}.lock")):
        if not path.is_file():
            try:
                get()
            except Exception as error:  # torch's, timm's, the hub's and the network's
                reason = (str(error).splitlines() or [type(error).__name__])[0][:100]
                raise DataError(
                    f"weights imagenet: {source} cannot be fetched ({reason}); fetch it elsewhere"
                    f" and put it at {path} on every node, or choose `weights: none`"
                ) from None
    return path


def _fetch_by_timm(own: str, path: Path) -> None:
    net = library().create_model(own, pretrained=True, cache_dir=weights_folder() / "timm")
    _write(net.state_dict(), path)


def _fitted_by_timm(architecture: str, path: Path, shape: Shape) -> State:
    """What is in the file at `path` for patches of `shape`: positions are fitted to their size."""
    own = architecture.removeprefix(TIMM)
    overlay = {"file": str(path)}
    try:
        net = library().create_model(
            own, pretrained=True, pretrained_cfg_overlay=overlay, **size_of(own, shape)
        )
    except RuntimeError as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:100]
        raise SpaceError(
            f"weights {path}: not those of {architecture} ({reason}); give a file of the same net"
        ) from None
    return dict(net.state_dict())


def _hash_in(name: str) -> str | None:
    """The first digits of the SHA-256 that a file's name ends in, as torchvision's do."""
    stem, _, digits = Path(name).stem.rpartition("-")
    return digits if stem else None
