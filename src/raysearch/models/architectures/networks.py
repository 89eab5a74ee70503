"""Builds networks from hyperparameters, and checks that they accept a patch size."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from raysearch.config.hyperparameter_spec import Hparams
from raysearch.config.hyperparameters import resolve
from raysearch.errors import SpaceError
from raysearch.models import PatchShape
from raysearch.models.architectures import ARCHITECTURES
from raysearch.models.patch_limits import MIN_PATCH_SIDE
from raysearch.models.transfer.input_normalization import unwrap, with_input_normalization
from raysearch.models.transfer.network_layers import with_custom_head
from raysearch.models.transfer.pretrained_weights import compatible_weights, load_weights

# The sides that are tried to find the smallest patch that an architecture accepts.
CANDIDATE_SIDES = (16, 32, 64, 96, 128, 224, 256, 299, 384, 512)


def build_network(name: str, shape: PatchShape, num_classes: int, hparams: Hparams) -> nn.Module:
    """Build a network with random weights.

    Args:
        name: The architecture.
        shape: The patch shape (H, W, 3).
        num_classes: The number of logits.
        hparams: The hyperparameters of a trial; the others have their defaults. Those that the
            architecture does not have are ignored.

    Raises:
        SpaceError: If the name is unknown, the patch is smaller than `MIN_PATCH_SIDE`, or a value
            is out of range.
    """
    params = resolve({**hparams, "architecture": name})
    if min(shape[:2]) < MIN_PATCH_SIDE:
        raise SpaceError(
            f"patches of {shape[1]}x{shape[0]} are too small for {name}; shard them with"
            f" --size {MIN_PATCH_SIDE} or more"
        )
    try:
        net = ARCHITECTURES[name](shape, num_classes, **params.arguments_of("architecture"))
    except ValueError as error:  # torch raises it if a dropout probability is outside [0, 1]
        if "dropout" not in str(error):
            raise
        raise SpaceError(f"{name}: {error}") from error
    net = with_custom_head(
        net,
        num_classes,
        head_hidden_units=params.head_hidden_units,
        head_batch_norm=params.head_batch_norm,
        head_dropout=params.head_dropout,
    )
    return with_input_normalization(net, name, params.normalization, params.weights)


def build_with_weights(
    name: str, shape: PatchShape, num_classes: int, hparams: Hparams
) -> nn.Module:
    """Build a network, and load the pretrained weights of the hyperparameter `weights`.

    Raises:
        DataError: If the weights cannot be read or downloaded.
        SpaceError: If they do not match the architecture, or for the reasons of `build_network`.
    """
    net = build_network(name, shape, num_classes, hparams)
    load_weights(unwrap(net), name, resolve(hparams).weights, num_classes, shape)
    return net


def check_weights(name: str, shape: PatchShape, hparams: Hparams) -> None:
    """Download the pretrained weights of `hparams`, and check that they match the architecture.

    Raises:
        DataError: If the weights cannot be read or downloaded.
        SpaceError: If they do not match the architecture.
    """
    with torch.device("meta"):
        net = unwrap(build_network(name, shape, 2, hparams))
    compatible_weights(net, name, resolve(hparams).weights, 2, shape)


def check_patch_shape(name: str, shape: PatchShape, hparams: Hparams) -> None:
    """Check that an architecture accepts patches of `shape`, in training and evaluation mode.

    The network runs on torch's meta device, which computes shapes only.

    Raises:
        SpaceError: If it does not accept them; the message has the smallest size that it accepts.
    """
    error = _shape_error(name, shape, hparams)
    if error is None:
        return
    if isinstance(error, SpaceError):
        raise error
    min_side = _min_accepted_side(name, min(shape[:2]), hparams)
    if min_side is None:
        reason = str(error).strip().partition("\n")[0][:200] or type(error).__name__
    elif _shape_error(name, (2 * min_side + 1, 2 * min_side + 1, 3), hparams):
        # Some networks accept a single size only, or multiples of it.
        reason = f"{min_side}x{min_side} would do"
    else:
        reason = f"it needs {min_side}x{min_side} or more"
    raise SpaceError(
        f"architecture {name} cannot take patches of {shape[1]}x{shape[0]} ({reason}); choose"
        " another, or shard larger patches"
    )


def _shape_error(name: str, shape: PatchShape, hparams: Hparams) -> Exception | None:
    """Return the exception that building the network or a forward pass raises."""
    height, width, channels = shape
    try:
        with torch.device("meta"), torch.inference_mode():
            net, batch = (
                build_network(name, shape, 2, hparams),
                torch.empty(2, channels, height, width),
            )
            for training in (True, False):
                logits = net.train(training)(batch)
                if not isinstance(logits, Tensor) or logits.shape != (2, 2):
                    return SpaceError(
                        f"architecture {name} does not return one logit a class; choose another"
                    )
    except Exception as error:  # networks of other libraries raise any exception
        return error
    return None


def _min_accepted_side(name: str, rejected_side: int, hparams: Hparams) -> int | None:
    """Return a side above `rejected_side` that the network accepts, by bisection.

    The network does not accept the side one pixel below it. None if it accepts none of
    `CANDIDATE_SIDES`.
    """

    def is_accepted(side: int) -> bool:
        return _shape_error(name, (side, side, 3), hparams) is None

    candidates = [side for side in CANDIDATE_SIDES if side > rejected_side]
    high = next(filter(is_accepted, candidates), None)
    if high is None:
        return None
    low = max([rejected_side, *(side for side in candidates if side < high)])
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_accepted(middle) else (middle, high)
    return high
