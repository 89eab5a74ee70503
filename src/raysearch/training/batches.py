"""Whole batches on the device: cut by index, normalised, flipped and turned."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from raysearch.models.classifier import normalised
from raysearch.models.dihedral import kinds, turned

# Rows (B,), and the share of the loss that their labels have.
Targets = list[tuple[Tensor, float]]


def mixed(
    batch: Tensor, rows: Tensor, fraction: float, generator: torch.Generator
) -> tuple[Tensor, Targets]:
    """Each patch of `batch` (B, C, H, W) blended with another: `fraction` of it (Zhang et al., 2018).

    With the targets: its row, and that of the other. `generator` is a CPU one.
    """
    others = torch.randperm(len(batch), generator=generator).to(batch.device)
    return torch.lerp(batch[others], batch, fraction), [
        (rows, fraction),
        (rows[others], 1 - fraction),
    ]


def cut(index: Tensor, size: int) -> list[Tensor]:
    """`index` (N,) in pieces of `size`; a last one of 1 joins the piece before it.

    Batch norm has no variance of one patch.
    """
    pieces = list(torch.split(index, size))
    if len(pieces) > 1 and len(pieces[-1]) == 1:
        pieces[-2:] = [torch.cat(pieces[-2:])]
    return pieces


def batch_of(
    stored: Tensor,
    shape: tuple[int, int, int],
    layout: torch.memory_format = torch.contiguous_format,
    turns: torch.Generator | None = None,
) -> Tensor:
    """Gathered patches, uint8 (B, H*W*C), as a float32 batch (B, C, H, W) from -1 to 1 in `layout`.

    With `turns`, a CPU generator, each is in one of its 8 flips and quarter turns, at random; those
    that are not square have 4: flips and half turns. They are turned as bytes, a fourth of the
    memory, on the way into their layout.
    """
    if turns is None:
        pixels = stored.view(-1, *shape).permute(0, 3, 1, 2).contiguous(memory_format=layout)
        return normalised(pixels)
    height, width, channels = shape
    drawn = torch.randint(kinds(height, width), (len(stored),), generator=turns).to(stored.device)
    where = _origins(height, width, stored.device).index_select(0, drawn)
    pixels = stored.view(-1, height * width, channels)
    if layout == torch.channels_last:
        found = torch.gather(pixels, 1, where.unsqueeze(2).expand(-1, -1, channels))
        return normalised(found).view(-1, *shape).permute(0, 3, 1, 2)
    found = torch.gather(pixels.transpose(1, 2), 2, where.unsqueeze(1).expand(-1, channels, -1))
    return normalised(found).view(-1, channels, height, width)


@lru_cache(maxsize=8)
def _origins(height: int, width: int, device: torch.device) -> Tensor:
    """By the number of a flip or turn, int64 (kinds, H*W): which pixel comes to each place."""
    places = torch.arange(height * width).view(1, 1, height, width)
    every = [turned(places, kind).flatten() for kind in range(kinds(height, width))]
    return torch.stack(every).to(device)
