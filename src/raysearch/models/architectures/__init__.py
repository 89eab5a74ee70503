"""Architectures, by name.

A builder takes the patch's shape (H, W, 3) and the number of classes; its keyword-only parameters
are the knobs that a search space may name. The net takes normalised float32 batches (B, 3, H, W)
and gives logits (B, classes).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any

import torch
from torch import nn

from raysearch.errors import SpaceError
from raysearch.models.architectures import equivariant, small, zoo
from raysearch.models.architectures.shape import Shape
from raysearch.models.architectures.timm_zoo import TIMM, timm_net
from raysearch.models.transfer.head import with_head
from raysearch.models.transfer.layers import inside
from raysearch.models.transfer.scaling import scaled
from raysearch.models.transfer.weights import NONE, load_weights, refuse_unfit_weights

SMALLEST_SIDE = 8


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


def refuse_unfit(name: str, shape: Shape, knobs: Mapping[str, Any]) -> None:
    """SpaceError where the architecture `name` with `knobs` cannot take patches of `shape`.

    Tried on torch's meta device: nothing is computed.
    """
    height, width, channels = shape
    try:
        with torch.device("meta"), torch.inference_mode():
            build(name, shape, 2, knobs).eval()(torch.empty(2, channels, height, width))
    except (RuntimeError, AssertionError, TypeError) as fault:  # each net has its own
        reason = str(fault).splitlines()[0][:200]
        raise SpaceError(
            f"architecture {name} cannot take patches of {width}x{height} ({reason}); choose"
            " another, or shard larger patches"
        ) from None


def build(name: str, shape: Shape, classes: int, knobs: Mapping[str, Any]) -> nn.Module:
    """The architecture `name` with those of `knobs` that it reads.

    SpaceError for an unknown name, for a patch too small for three poolings and for values of
    knobs that are no net.
    """
    part = ARCHITECTURES[name]
    if min(shape[:2]) < SMALLEST_SIDE:
        raise SpaceError(
            f"patches of {shape[1]}x{shape[0]} are too small for {name}; shard them with"
            f" --size {SMALLEST_SIDE} or more"
        )
    try:
        net = part(shape, classes, **given(part, knobs))
    except ValueError as fault:  # torch's own, of a dropout outside 0 to 1
        raise SpaceError(f"{name}: {fault}") from fault
    net = with_head(net, classes, **given(with_head, knobs))
    return scaled(
        net, name, str(knobs.get("normalisation", "auto")), str(knobs.get("weights", NONE))
    )


def begun(name: str, shape: Shape, classes: int, knobs: Mapping[str, Any]) -> nn.Module:
    """What `build` gives, with the weights that the knob `weights` asks for.

    SpaceError for those that cannot be had, or are not this net's.
    """
    net = build(name, shape, classes, knobs)
    load_weights(inside(net), name, str(knobs.get("weights", NONE)), classes, shape)
    return net


def refuse_weights(name: str, shape: Shape, knobs: Mapping[str, Any]) -> None:
    """SpaceError where `begun` would refuse the weights of `knobs`; they are fetched for that."""
    with torch.device("meta"):
        net = inside(build(name, shape, 2, knobs))
    refuse_unfit_weights(net, name, str(knobs.get("weights", NONE)), 2, shape)


@lru_cache(1024)
def knobs_of(part: Callable[..., Any]) -> frozenset[str]:
    """The keyword-only parameters of `part`: the knobs that it reads."""
    parameters = inspect.signature(part).parameters.values()
    return frozenset(one.name for one in parameters if one.kind is one.KEYWORD_ONLY)


def net_knobs(name: str) -> frozenset[str]:
    """The knobs that say what the net of the architecture `name` is, without its weights."""
    return knobs_of(ARCHITECTURES[name]) | knobs_of(with_head)


def given(part: Callable[..., Any], knobs: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `knobs` that `part` reads."""
    return {name: value for name, value in knobs.items() if name in knobs_of(part)}
