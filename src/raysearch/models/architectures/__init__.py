"""Architectures, by name.

A builder takes the patch's shape (H, W, 3) and the number of classes; its keyword-only parameters
are the hyperparameters that a search space may name. The net takes normalised float32 batches (B, 3, H, W)
and gives logits (B, classes).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from raysearch.errors import SpaceError
from raysearch.models.architectures import equivariant
from raysearch.models.architectures import small_cnns as small
from raysearch.models.architectures import torchvision_models as zoo
from raysearch.models.architectures.timm_models import TIMM, timm_net
from raysearch.models.patch_shape import Shape
from raysearch.models.transfer.classifier_head import with_head
from raysearch.models.transfer.input_normalization import scaled
from raysearch.models.transfer.layer_order import inside
from raysearch.models.transfer.pretrained_weights import NONE, load_weights, reject_unfit_weights

SMALLEST_SIDE = 8
# What a net is tried on to say what it needs, where it cannot take the patches.
SIDES = (16, 32, 64, 96, 128, 224, 256, 299, 384, 512)


class Architectures(dict[str, Callable[..., nn.Module]]):
    """The builders by name, and timm's by every name that begins with `timm:`."""

    def __missing__(self, name: str) -> Callable[..., nn.Module]:
        if name.startswith(TIMM):
            return partial(timm_net, name)
        allowed = ", ".join(self)
        raise SpaceError(f"architecture {name!r} is unknown; choose one of {allowed}, {TIMM}NAME")


ARCHITECTURES = Architectures(
    benchmark=small.benchmark, cnn=small.cnn, p4m=equivariant.p4m, **zoo.ZOO
)


def reject_unfit(name: str, shape: Shape, hparams: Mapping[str, Any]) -> None:
    """SpaceError where the architecture `name` with `hparams` cannot take patches of `shape`.

    Tried on torch's meta device, learning and judging: nothing is computed.
    """
    error = _unfit(name, shape, hparams)
    if error is None:
        return
    if isinstance(error, SpaceError):
        raise error
    needed = _min_side(name, min(shape[:2]), hparams)
    if needed is None:
        reason = str(error).strip().partition("\n")[0][:200] or type(error).__name__
    elif _unfit(name, (2 * needed + 1, 2 * needed + 1, 3), hparams):
        # Not all that is larger fits: a net of one size, or of multiples of one.
        reason = f"{needed}x{needed} would do"
    else:
        reason = f"it needs {needed}x{needed} or more"
    raise SpaceError(
        f"architecture {name} cannot take patches of {shape[1]}x{shape[0]} ({reason}); choose"
        " another, or shard larger patches"
    )


def _unfit(name: str, shape: Shape, hparams: Mapping[str, Any]) -> Exception | None:
    """What building the net and two steps of it raise on patches of `shape`."""
    height, width, channels = shape
    try:
        with torch.device("meta"), torch.inference_mode():
            net, batch = build(name, shape, 2, hparams), torch.empty(2, channels, height, width)
            for learning in (True, False):
                logits = net.train(learning)(batch)
                if not isinstance(logits, Tensor) or logits.shape != (2, 2):
                    return SpaceError(f"architecture {name} gives no logit a class; choose another")
    except Exception as error:  # a library's net may raise anything
        return error
    return None


def _min_side(name: str, side: int, hparams: Mapping[str, Any]) -> int | None:
    """A side above `side` that the net takes, while it does not take one pixel less."""

    def fits(one: int) -> bool:
        return _unfit(name, (one, one, 3), hparams) is None

    larger = [one for one in SIDES if one > side]
    high = next(filter(fits, larger), None)
    if high is None:
        return None
    side = max([side, *(one for one in larger if one < high)])
    while high - side > 1:
        middle = (side + high) // 2
        side, high = (side, middle) if fits(middle) else (middle, high)
    return high


def build(name: str, shape: Shape, classes: int, hparams: Mapping[str, Any]) -> nn.Module:
    """The architecture `name` with those of `hparams` that it reads.

    SpaceError for an unknown name, for a patch too small for three poolings and for values of
    hyperparameters that are no net.
    """
    part = ARCHITECTURES[name]
    if min(shape[:2]) < SMALLEST_SIDE:
        raise SpaceError(
            f"patches of {shape[1]}x{shape[0]} are too small for {name}; shard them with"
            f" --size {SMALLEST_SIDE} or more"
        )
    try:
        net = part(shape, classes, **given(part, hparams))
    except ValueError as error:  # torch's own, of a dropout outside 0 to 1
        if "dropout" not in str(error):
            raise
        raise SpaceError(f"{name}: {error}") from error
    net = with_head(net, classes, **given(with_head, hparams))
    return scaled(
        net, name, str(hparams.get("normalization", "auto")), str(hparams.get("weights", NONE))
    )


def begun(name: str, shape: Shape, classes: int, hparams: Mapping[str, Any]) -> nn.Module:
    """What `build` gives, with the weights that the hyperparameter `weights` asks for.

    SpaceError for those that cannot be had, or are not this net's.
    """
    net = build(name, shape, classes, hparams)
    load_weights(inside(net), name, str(hparams.get("weights", NONE)), classes, shape)
    return net


def reject_weights(name: str, shape: Shape, hparams: Mapping[str, Any]) -> None:
    """SpaceError where `begun` would refuse the weights of `hparams`; they are fetched for that."""
    with torch.device("meta"):
        net = inside(build(name, shape, 2, hparams))
    reject_unfit_weights(net, name, str(hparams.get("weights", NONE)), 2, shape)


@lru_cache(1024)
def hparams_of(part: Callable[..., Any]) -> frozenset[str]:
    """The keyword-only parameters of `part`: the hyperparameters that it reads."""
    parameters = inspect.signature(part).parameters.values()
    return frozenset(one.name for one in parameters if one.kind is one.KEYWORD_ONLY)


def net_hparams(name: str) -> frozenset[str]:
    """The hyperparameters that say what the net of the architecture `name` is, without its weights."""
    return hparams_of(ARCHITECTURES[name]) | hparams_of(with_head)


def given(part: Callable[..., Any], hparams: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `hparams` that `part` reads."""
    return {name: value for name, value in hparams.items() if name in hparams_of(part)}
