"""What a plan says of each architecture and size of patch, beside what is so.

    uv run python benchmarks/architectures.py

A row a combination: whether the plan lets it through, or why not; millions of parameters; billions
of floating-point operations a patch of a forward pass, a multiplication and an addition being two.
What is so: a step of learning on two patches, computed on the CPU. Value: the share of combinations
of which the plan says what is so.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from raysearch.errors import SpaceError
from raysearch.models.architectures import ARCHITECTURES, build, reject_unfit

SIDES = (50, 96, 224)
OF_TIMM = (
    "timm:resnetv2_152",
    "timm:inception_v4",
    "timm:nasnetalarge",
    "timm:convnextv2_atto",
    "timm:vit_small_patch16_224",
    "timm:swin_tiny_patch4_window7_224",
    "timm:efficientformer_l1",
)


def said(name: str, side: int, hparams: Mapping[str, Any]) -> str | None:
    """Why a plan rejects the architecture, or None."""
    try:
        reject_unfit(name, (side, side, 3), hparams)
    except SpaceError as error:
        return str(error)
    return None


def learns(name: str, side: int) -> bool:
    """Whether a step of learning on two patches gives every weight a finite gradient."""
    torch.manual_seed(0)
    try:
        net = build(name, (side, side, 3), 2, {}).train()
        loss = nn.functional.cross_entropy(net(torch.rand(2, 3, side, side)), torch.tensor([0, 1]))
        loss.backward()  # type: ignore[no-untyped-call]
    except Exception:  # whatever a library's net may raise
        return False
    gradients = [one.grad for one in net.parameters() if one.requires_grad]
    return all(one is not None and bool(torch.isfinite(one).all()) for one in gradients)


def size(name: str, side: int) -> tuple[float, float]:
    """Millions of parameters, and billions of operations a patch."""
    with torch.device("meta"), torch.inference_mode():
        net, counter = build(name, (side, side, 3), 2, {}).eval(), FlopCounterMode(display=False)
        with counter:
            net(torch.empty(1, 3, side, side))
    return sum(one.numel() for one in net.parameters()) / 1e6, counter.get_total_flops() / 1e9


def main(names: tuple[str, ...], write: Callable[[str], object] = sys.stdout.write) -> None:
    right, seconds = 0, 0.0
    rows = [(name, side) for name in names for side in SIDES]
    for name, side in rows:
        began = time.perf_counter()
        rejected = said(name, side, {})
        seconds = max(seconds, time.perf_counter() - began)
        truth = learns(name, side)
        right += truth == (rejected is None)
        row = f"{name:34}{side:4}  "
        if rejected is None:
            millions, billions = size(name, side)
            row += f"works{millions:8.2f} M{billions:9.3f} GFLOP"
        else:
            row += f"rejected: {rejected}"
        write(f"{row}{'' if truth == (rejected is None) else '  BUT IT IS NOT SO'}\n")
    write(f"the plan took {seconds:.1f} s at most for one of them\n")
    line = {
        "benchmark": "architectures",
        "value": right,
        "unit": f"of {len(rows)} combinations told truly",
        "peer": None,
        "ratio": right / len(rows),
        "goal": f">= {len(rows)}",
        "pass": right == len(rows),
    }
    write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main(tuple(sys.argv[1:]) or (*ARCHITECTURES, *OF_TIMM))
