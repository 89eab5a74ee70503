"""Compares a plan's check of each architecture and patch size with a real training step.

    .venv/bin/python benchmarks/architectures.py

Each row is a combination: whether the plan accepts it, or the reason; millions of parameters;
GFLOP of the forward pass of a patch, with a multiply-add as two. The reference is a training step
with two patches on the CPU. Value: the combinations for which the plan agrees with the reference.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from raysearch.config.names import IMAGE_ARCHITECTURES
from raysearch.errors import SpaceError
from raysearch.models.architectures.networks import build_network, check_patch_shape

SIDES = (50, 96, 224)
TIMM_MODELS = (
    "timm:resnetv2_152",
    "timm:inception_v4",
    "timm:nasnetalarge",
    "timm:convnextv2_atto",
    "timm:vit_small_patch16_224",
    "timm:swin_tiny_patch4_window7_224",
    "timm:efficientformer_l1",
)


def rejection_of(name: str, side: int) -> str | None:
    """Return why a plan rejects the architecture; None if it accepts it."""
    try:
        check_patch_shape(name, (side, side, 3), {})
    except SpaceError as error:
        return str(error)
    return None


def is_trainable(name: str, side: int) -> bool:
    """Return whether a training step with two patches gives every weight a finite gradient."""
    torch.manual_seed(0)
    try:
        net = build_network(name, (side, side, 3), 2, {}).train()
        loss = nn.functional.cross_entropy(net(torch.rand(2, 3, side, side)), torch.tensor([0, 1]))
        loss.backward()  # type: ignore[no-untyped-call]
    except Exception:  # networks of other libraries raise any exception
        return False
    gradients = [weight.grad for weight in net.parameters() if weight.requires_grad]
    return all(
        gradient is not None and bool(torch.isfinite(gradient).all()) for gradient in gradients
    )


def network_size(name: str, side: int) -> tuple[float, float]:
    """Return millions of parameters, and GFLOP per patch."""
    with torch.device("meta"), torch.inference_mode():
        net = build_network(name, (side, side, 3), 2, {}).eval()
        with FlopCounterMode(display=False) as counter:
            net(torch.empty(1, 3, side, side))
    num_parameters = sum(weight.numel() for weight in net.parameters())
    return num_parameters / 1e6, counter.get_total_flops() / 1e9


def main(names: tuple[str, ...], write: Callable[[str], object] = sys.stdout.write) -> None:
    num_agreeing, max_seconds = 0, 0.0
    combinations = [(name, side) for name in names for side in SIDES]
    for name, side in combinations:
        start = time.perf_counter()
        rejection = rejection_of(name, side)
        max_seconds = max(max_seconds, time.perf_counter() - start)
        agrees = is_trainable(name, side) == (rejection is None)
        num_agreeing += agrees
        row = f"{name:34}{side:4}  "
        if rejection is None:
            millions, gflop = network_size(name, side)
            row += f"accepted{millions:8.2f} M{gflop:9.3f} GFLOP"
        else:
            row += f"rejected: {rejection}"
        write(f"{row}{'' if agrees else '  THE PLAN IS WRONG'}\n")
    write(f"the check took at most {max_seconds:.1f} s per combination\n")
    line = {
        "benchmark": "architectures",
        "value": num_agreeing,
        "unit": f"of {len(combinations)} combinations checked correctly",
        "peer": None,
        "ratio": num_agreeing / len(combinations),
        "goal": f">= {len(combinations)}",
        "pass": num_agreeing == len(combinations),
    }
    write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main(tuple(sys.argv[1:]) or (*IMAGE_ARCHITECTURES, *TIMM_MODELS))
