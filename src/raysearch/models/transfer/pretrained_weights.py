"""Loads pretrained weights of torchvision, timm or an encoder, or from a file."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from raysearch.config.names import (
    IMAGENET,
    NO_WEIGHTS,
    PRETRAINED,
    TIMM_PREFIX,
    WEIGHTS_SUFFIXES,
    is_encoder,
)
from raysearch.errors import DataError, SpaceError, first_line
from raysearch.models import PatchShape
from raysearch.models.encoders.encoder_network import EncoderNetwork
from raysearch.models.encoders.encoder_state import encoder_state, with_interpolated_positions
from raysearch.models.encoders.nearest_encoder import nearest_encoder
from raysearch.models.encoders.snapshots import snapshot_weights
from raysearch.models.timm_models import image_size_options, timm_library
from raysearch.models.transfer.network_layers import head_name
from raysearch.models.weights.efficientnet_names import with_timm_names
from raysearch.models.weights.imagenet_files import imagenet_file
from raysearch.models.weights.state_dicts import (
    StateDict,
    matching_state,
    read_state_dict,
    without_head,
    without_prefix,
    write_state_dict,
)
from raysearch.models.weights.weights_cache import sha256

# Characters of a hash in a message.
HASH_LENGTH = 12


def weights_file(architecture: str, weights: str) -> Path:
    """Return the file of pretrained weights, downloaded if necessary.

    Args:
        architecture: Its name in the registry.
        weights: `imagenet`, `pretrained`, or the path of a file.

    Raises:
        DataError: If the weights cannot be downloaded.
        SpaceError: If the architecture has none.
    """
    if weights == PRETRAINED and is_encoder(architecture):
        return snapshot_weights(architecture)
    if weights == PRETRAINED:
        raise SpaceError(
            f"weights pretrained: {architecture} is no pretrained encoder; choose `imagenet`, a"
            " file, or `none`"
        )
    return imagenet_file(architecture) if weights == IMAGENET else Path(weights).expanduser()


def weights_hash(architecture: str, weights: str) -> str:
    """Return the SHA-256 of the file of pretrained weights, in hexadecimal.

    Raises:
        DataError: If the weights cannot be downloaded or read.
        SpaceError: If the architecture has none.
    """
    try:
        return sha256(weights_file(architecture, weights))
    except OSError as error:
        raise DataError(
            f"weights {weights}: cannot be read ({error.strerror or error}); give another file"
        ) from None


def load_weights(
    net: nn.Module,
    architecture: str,
    weights: str,
    num_classes: int,
    shape: PatchShape,
    expected_hash: str = "",
) -> None:
    """Load pretrained weights into `net`; its head keeps its random weights.

    Args:
        net: The network, without its input normalization.
        architecture: Its name in the registry.
        num_classes: The number of logits.
        weights: `none`, `imagenet`, or the path of a file.
        shape: The patch shape (H, W, 3) of `net`.
        expected_hash: The SHA-256 of the file in hexadecimal; empty if any is allowed.

    Raises:
        DataError: If the weights cannot be read or downloaded, or have another hash.
        SpaceError: If they do not match the architecture.
    """
    if weights != NO_WEIGHTS and expected_hash:
        _check_hash(architecture, weights, expected_hash)
    state = compatible_weights(net, architecture, weights, num_classes, shape)
    if state:
        net.load_state_dict({**net.state_dict(), **state})


def compatible_weights(
    net: nn.Module,
    architecture: str,
    weights: str,
    num_classes: int,
    shape: PatchShape,
    path: Path | None = None,
) -> StateDict:
    """Return the pretrained weights without the head, after a check against `net`.

    `net` may be on the meta device. The result is empty if `weights` is `none`.

    Args:
        net: The network, without its input normalization.
        architecture: Its name in the registry.
        weights: `none`, `imagenet`, `pretrained`, or the path of a file.
        num_classes: The number of logits.
        shape: The patch shape (H, W, 3) of `net`.
        path: The file with these weights; by default it is searched for.

    Raises:
        DataError: If the weights cannot be read or downloaded.
        SpaceError: If they do not exist, or do not match the architecture.
    """
    if weights == NO_WEIGHTS:
        return {}
    message = f"weights {weights}: not those of {architecture}"
    path = path or weights_file(architecture, weights)
    if isinstance(net, EncoderNetwork):
        stored = read_state_dict(path, weights)
        state = encoder_state(net.encoder, stored)
        try:
            matched = matching_state(state, net.encoder.state_dict(), "", message)
        except SpaceError as error:
            nearest = nearest_encoder(stored)
            is_other = nearest is not None and nearest != architecture
            raise SpaceError(
                f"{error}; these are weights of {nearest}" if is_other else str(error)
            ) from None
        return {f"encoder.{name}": value for name, value in matched.items()}
    state = _stored_weights(net, architecture, weights, num_classes, shape, path)
    return matching_state(state, net.state_dict(), head_name(net, num_classes), message)


def _check_hash(architecture: str, weights: str, expected_hash: str) -> None:
    found_hash = weights_hash(architecture, weights)
    if found_hash != expected_hash:
        raise DataError(
            f"weights {weights} of {architecture}: {weights_file(architecture, weights)} has"
            f" SHA-256 {found_hash[:HASH_LENGTH]}, the study was planned with"
            f" {expected_hash[:HASH_LENGTH]}; put that file on every node"
        )


def _stored_weights(
    net: nn.Module,
    architecture: str,
    weights: str,
    num_classes: int,
    shape: PatchShape,
    path: Path,
) -> StateDict:
    """Return the stored weights; position embeddings are interpolated to the patch shape."""
    state = without_prefix(read_state_dict(path, weights), net.state_dict())
    if architecture.startswith(TIMM_PREFIX):
        state = with_timm_names(state, net.state_dict())
        body = without_head(net.state_dict(), head_name(net, num_classes))
        if weights == IMAGENET and not body.keys() <= state.keys():
            # timm renames entries of files in an older layout.
            state = _loaded_by_timm(architecture, path, shape)
        state = with_interpolated_positions(net, state)
    if "encoder.pos_embedding" in state:
        state = _with_torchvision_positions(net, state, shape, weights)
    return state


def _with_torchvision_positions(
    net: nn.Module, state: StateDict, shape: PatchShape, weights: str
) -> StateDict:
    """Resize the position embeddings of a vision transformer of torchvision to the patch shape."""
    from torchvision.models.vision_transformer import VisionTransformer, interpolate_embeddings

    if not isinstance(net, VisionTransformer):
        return state
    try:
        return dict(interpolate_embeddings(shape[0], net.patch_size, state))
    except (ValueError, RuntimeError) as error:
        raise SpaceError(
            f"weights {weights}: its position embeddings cannot be used ({first_line(error, 100)});"
            " give a file of the same net"
        ) from None


def save_weights(net: nn.Module, path: Path) -> None:
    """Write the state dictionary of `net` to `path`, atomically.

    Raises:
        SpaceError: If the suffix is not one of `WEIGHTS_SUFFIXES`.
    """
    if path.suffix not in WEIGHTS_SUFFIXES:
        raise SpaceError(f"{path}: no file of weights; name it {', '.join(WEIGHTS_SUFFIXES)}")
    write_state_dict(net.state_dict(), path)


def _loaded_by_timm(architecture: str, path: Path, shape: PatchShape) -> StateDict:
    """Return the weights of the file at `path`, position embeddings resized to `shape`."""
    name = architecture.removeprefix(TIMM_PREFIX)
    try:
        net = timm_library().create_model(
            name,
            pretrained=True,
            pretrained_cfg_overlay={"file": str(path)},
            **image_size_options(name, shape),
        )
    except (RuntimeError, KeyError) as error:
        raise SpaceError(
            f"weights {path}: not those of {architecture} ({first_line(error, 100)}); give a file"
            " of the same net"
        ) from None
    return dict(net.state_dict())
