"""Loads pretrained weights: downloaded once per node, or read from a file.

The weights come from torchvision or timm. A file that is in the cache is used without a network
connection.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from filelock import FileLock
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.hub import download_url_to_file
from torchvision import models
from torchvision.models.vision_transformer import VisionTransformer, interpolate_embeddings

from raysearch.config.names import IMAGENET, NO_WEIGHTS, TIMM_PREFIX, WEIGHTS_SUFFIXES
from raysearch.data.files import Folder
from raysearch.data.shards.patches import cache_folder
from raysearch.errors import DataError, SpaceError, first_line
from raysearch.models import PatchShape
from raysearch.models.timm_models import (
    image_size_options,
    timm_library,
)
from raysearch.models.transfer.network_layers import head_name

SAFETENSORS = ".safetensors"
# The auxiliary heads of GoogLeNet and Inception, which the architectures here do not have.
AUXILIARY_HEADS = ("aux1.", "aux2.", "AuxLogits.")

StateDict = dict[str, Tensor]


def weights_folder() -> Path:
    """Return the folder of this node's downloaded weights."""
    return cache_folder() / "weights"


def load_weights(
    net: nn.Module, architecture: str, weights: str, num_classes: int, shape: PatchShape
) -> None:
    """Load pretrained weights into `net`; its head keeps its random weights.

    Args:
        net: The network, without its input normalization.
        architecture: Its name in the registry.
        num_classes: The number of logits.
        weights: `none`, `imagenet`, or the path of a file.
        shape: The patch shape (H, W, 3) of `net`.

    Raises:
        DataError: If the weights cannot be read or downloaded.
        SpaceError: If they do not match the architecture.
    """
    state = compatible_weights(net, architecture, weights, num_classes, shape)
    if state:
        net.load_state_dict({**net.state_dict(), **state})


def compatible_weights(
    net: nn.Module, architecture: str, weights: str, num_classes: int, shape: PatchShape
) -> StateDict:
    """Return the pretrained weights without the head, after a check against `net`.

    `net` may be on the meta device. The result is empty if `weights` is `none`.

    Raises:
        DataError: If the weights cannot be read or downloaded.
        SpaceError: If they do not exist, or do not match the architecture.
    """
    if weights == NO_WEIGHTS:
        return {}
    state = _stored_weights(net, architecture, weights, shape)
    head = head_name(net, num_classes)
    _check_same_layers(net, state, head, f"weights {weights}: not those of {architecture}")
    return _without_head(state, head)


def _stored_weights(
    net: nn.Module, architecture: str, weights: str, shape: PatchShape
) -> StateDict:
    """Return the stored weights; position embeddings are interpolated to the patch shape."""
    path = _imagenet_file(architecture) if weights == IMAGENET else Path(weights)
    state = _read_state_dict(path, weights)
    if architecture.startswith(TIMM_PREFIX) and image_size_options(
        architecture.removeprefix(TIMM_PREFIX), shape
    ):
        state = _resized_by_timm(architecture, path, shape)
    if isinstance(net, VisionTransformer) and "encoder.pos_embedding" in state:
        state = dict(interpolate_embeddings(shape[0], net.patch_size, state))
    return {name: value for name, value in state.items() if not name.startswith(AUXILIARY_HEADS)}


def _read_state_dict(path: Path, weights: str) -> StateDict:
    try:
        if path.suffix == SAFETENSORS:
            return dict(load_file(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise DataError(
            f"weights {weights}: no such file; give one, `imagenet` or `none`"
        ) from None
    except Exception as error:  # torch, zipfile, pickle and safetensors raise their own classes
        raise DataError(
            f"weights {weights}: cannot be read ({first_line(error, 100)}); save a state dictionary"
            " with torch.save"
        ) from None
    if not isinstance(state, Mapping) or not all(
        isinstance(value, Tensor) for value in state.values()
    ):
        raise DataError(f"weights {weights}: holds no state dictionary; save net.state_dict()")
    return dict(state)


def save_weights(net: nn.Module, path: Path) -> None:
    """Write the state dictionary of `net` to `path`, atomically.

    Raises:
        SpaceError: If the suffix is not one of `WEIGHTS_SUFFIXES`.
    """
    if path.suffix not in WEIGHTS_SUFFIXES:
        raise SpaceError(f"{path}: no file of weights; name it {', '.join(WEIGHTS_SUFFIXES)}")
    _write_state_dict(net.state_dict(), path)


def _write_state_dict(state: Mapping[str, Tensor], path: Path) -> None:
    content = io.BytesIO()
    if path.suffix == SAFETENSORS:
        content.write(save({name: value.contiguous() for name, value in state.items()}))
    else:
        torch.save(dict(state), content)
    Folder(str(path.parent)).write(path.name, content.getvalue())


def _without_head(state: StateDict, head: str) -> StateDict:
    if not head:
        return state
    return {name: value for name, value in state.items() if not name.startswith(f"{head}.")}


def _check_same_layers(net: nn.Module, state: StateDict, head: str, message: str) -> None:
    """Check that `state` has the names and shapes of `net`, except for the head.

    Raises:
        SpaceError: If it has not; the text begins with `message`.
    """
    expected = _without_head(net.state_dict(), head)
    stored = _without_head(state, head)
    missing, unexpected = (
        sorted(expected.keys() - stored.keys()),
        sorted(stored.keys() - expected.keys()),
    )
    if missing or unexpected:
        first = f"{missing[0]} is missing" if missing else f"{unexpected[0]} is none of its layers"
        num_others = len(missing) + len(unexpected) - 1
        raise SpaceError(
            f"{message} ({first}, and {num_others} more); give a file of that architecture"
        )
    for name, value in expected.items():
        if stored[name].shape != value.shape:
            sizes = f"{tuple(stored[name].shape)} instead of {tuple(value.shape)}"
            raise SpaceError(f"{message} ({name} is {sizes}); give a file of the same net")


def _imagenet_file(architecture: str) -> Path:
    """Return the file of the ImageNet weights, downloaded if this node does not have it.

    Raises:
        SpaceError: If the architecture has no such weights.
        DataError: If the download fails; the message says where to put the file.
    """
    if architecture.startswith(TIMM_PREFIX):
        name = architecture.removeprefix(TIMM_PREFIX)
        path = weights_folder() / f"{name}{SAFETENSORS}"
        return _download_once(path, f"timm's {name}", lambda: _download_from_timm(name, path))
    if architecture not in models.list_models():
        raise SpaceError(
            f"weights imagenet: {architecture} has none; choose `none`, a file, or another"
            " architecture"
        )
    url = models.get_model_weights(architecture).DEFAULT.url
    return download(url, weights_folder() / url.rpartition("/")[2])


def download(url: str, path: Path) -> Path:
    """Download `url` to `path` unless the file exists; concurrent callers download it once."""

    def fetch() -> None:
        # torch verifies the hash in the file name, and moves the complete file to its place.
        download_url_to_file(url, str(path), _hash_prefix(path.name), progress=False)

    return _download_once(path, url, fetch)


def _download_once(path: Path, source: str, fetch: Callable[[], None]) -> Path:
    """Call `fetch`, which writes `path`, unless the file exists.

    Raises:
        DataError: If `fetch` fails; the message names the `source`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f"{path.name}.lock")):
        if not path.is_file():
            try:
                fetch()
            except Exception as error:  # torch, timm, the hub and the network have their own
                raise DataError(
                    f"weights imagenet: {source} cannot be fetched ({first_line(error, 100)});"
                    f" fetch it elsewhere and put it at {path} on every node, or choose"
                    " `weights: none`"
                ) from None
    return path


def _download_from_timm(name: str, path: Path) -> None:
    net = timm_library().create_model(name, pretrained=True, cache_dir=weights_folder() / "timm")
    _write_state_dict(net.state_dict(), path)


def _resized_by_timm(architecture: str, path: Path, shape: PatchShape) -> StateDict:
    """Return the weights of the file at `path`, position embeddings resized to `shape`."""
    name = architecture.removeprefix(TIMM_PREFIX)
    try:
        net = timm_library().create_model(
            name,
            pretrained=True,
            pretrained_cfg_overlay={"file": str(path)},
            **image_size_options(name, shape),
        )
    except RuntimeError as error:
        raise SpaceError(
            f"weights {path}: not those of {architecture} ({first_line(error, 100)}); give a file"
            " of the same net"
        ) from None
    return dict(net.state_dict())


def _hash_prefix(name: str) -> str | None:
    """Return the SHA-256 prefix at the end of a file name, as in torchvision's file names."""
    stem, _, digits = Path(name).stem.rpartition("-")
    return digits if stem else None
