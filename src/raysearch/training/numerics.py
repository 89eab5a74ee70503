"""Precision and memory format, chosen by trying them for a few steps."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from raysearch.models.architectures import build

BATCH = 16
# At least so many steps of each way, and more of a small net, whose few would be noise.
STEPS, MAX_STEPS, TRIED_S = 2, 50, 0.2
# A faster way has to be faster by more than the noise of a few steps.
GAIN = 0.9


@dataclass(frozen=True)
class Numerics:
    """How an architecture computes on one kind of device."""

    precision: str = "float32"
    memory_format: str = "contiguous"

    @property
    def layout(self) -> torch.memory_format:
        """The memory format of batches and weights."""
        channels_last = self.memory_format == "channels_last"
        return torch.channels_last if channels_last else torch.contiguous_format

    def place(self, model: nn.Module, device: torch.device) -> nn.Module:
        """`model` on `device`, its weights laid out for this memory format."""
        return model.to(device).to(memory_format=self.layout)

    def autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        """The context in which a forward pass runs."""
        return torch.autocast(
            device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16"
        )


CANDIDATES = tuple(
    Numerics(precision, layout)
    for precision in ("float32", "bfloat16")
    for layout in ("contiguous", "channels_last")
)


def device_kind(device: torch.device) -> str:
    """The name of the kind of `device`: one entry of a plan's numerics serves all of a kind."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text(encoding="utf-8").splitlines() if cpus.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def choose_numerics(
    architecture: str,
    hparams: Mapping[str, Any],
    shape: tuple[int, int, int],
    classes: int,
    device: torch.device,
) -> Numerics:
    """The fastest of four ways to train `architecture` on `device`, by a few steps of each.

    Plain float32 stays unless another way takes less than nine tenths of its time.
    """
    seconds = {
        way: _seconds(way, architecture, hparams, shape, classes, device) for way in CANDIDATES
    }
    plain = CANDIDATES[0]
    fastest = min(CANDIDATES, key=lambda way: seconds[way])
    return fastest if seconds[fastest] < GAIN * seconds[plain] else plain


def _seconds(
    way: Numerics,
    architecture: str,
    hparams: Mapping[str, Any],
    shape: tuple[int, int, int],
    classes: int,
    device: torch.device,
) -> float:
    torch.manual_seed(0)
    model = way.place(build(architecture, shape, classes, hparams), device)
    height, width, channels = shape
    batch = torch.zeros(BATCH, channels, height, width, device=device)
    batch = batch.contiguous(memory_format=way.layout)
    labels = torch.zeros(BATCH, dtype=torch.int64, device=device)
    found: list[float] = []
    # The first step allocates and compiles kernels.
    while len(found) <= STEPS or (len(found) < MAX_STEPS and sum(found[1:]) < TRIED_S):
        began = time.perf_counter()
        with way.autocast(device):
            loss = nn.functional.cross_entropy(model(batch).float(), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        found.append(time.perf_counter() - began)
    return min(found[1:])
