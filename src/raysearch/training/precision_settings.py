"""The precision and the memory format in which an architecture computes on a kind of device.

A study's plan contains these settings, so torch is imported only where a tensor is needed.
"""

from __future__ import annotations

import platform
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class PrecisionSettings:
    """The precision and the memory format of an architecture on one kind of device.

    Attributes:
        precision: `float32`, or `bfloat16` for automatic mixed precision.
        memory_format: `contiguous` or `channels_last`.
    """

    precision: str = "float32"
    memory_format: str = "contiguous"

    @property
    def torch_memory_format(self) -> torch.memory_format:
        """The memory format of batches and weights."""
        import torch

        is_channels_last = self.memory_format == "channels_last"
        return torch.channels_last if is_channels_last else torch.contiguous_format

    def to_device(self, model: nn.Module, device: torch.device) -> nn.Module:
        """Move `model` to `device`, in this memory format."""
        return model.to(device).to(memory_format=self.torch_memory_format)

    def autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        """Return the context manager of a forward pass."""
        import torch

        return torch.autocast(
            device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16"
        )


def device_kind(device: torch.device) -> str:
    """Return the model name of the GPU or CPU: devices of a kind share their settings."""
    if device.type == "cuda":
        import torch

        return torch.cuda.get_device_name(device)
    return cpu_kind()


def cpu_kind() -> str:
    """Return the model name of the CPU."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
