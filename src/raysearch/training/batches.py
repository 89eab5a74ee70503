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
    batch: Tensor, rows: Tensor, share: float, generator: torch.Generator
) -> tuple[Tensor, Targets]:
    """Each patch of `batch` (B, C, H, W) blended with another: `share` of it (Zhang et al., 2018).

    With the targets: its row, and that of the other. `generator` is a CPU one.
    """
    others = torch.randperm(len(batch), generator=generator).to(batch.device)
    return torch.lerp(batch[others], batch, share), [(rows, share), (rows[others], 1 - share)]


def cut(index: Tensor, size: int) -> list[Tensor]:
    """`index` (N,) in pieces of `size`; a last one of 1 joins the piece before it.

    Batch norm has no variance of one patch.
    """
    pieces = list(torch.split(index, size))
    if len(pieces) > 1 and len(pieces[-1]) == 1:
        pieces[-2:] = [torch.cat(pieces[-2:])]
    return pieces


def normalise(batch: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """A gathered batch, uint8 (B, H*W*3), as float32 (B, 3, H, W) from -1 to 1."""
    return normalised(batch.view(-1, *shape))


def dihedral(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Each patch of `batch` (B, C, H, W) in one of its 8 flips and quarter turns, at random.

    Patches that are not square have 4: flips and half turns. `generator` is a CPU one, so that a
    draw is the same on every device.
    """
    drawn = torch.randint(kinds(batch), (len(batch),), generator=generator).to(batch.device)
    count, channels, height, width = batch.shape
    where = _origins(height, width, batch.device).index_select(0, drawn)
    if not batch.is_contiguous(memory_format=torch.channels_last):
        wanted = where.unsqueeze(1).expand(-1, channels, -1)
        return torch.gather(batch.flatten(2), 2, wanted).view(batch.shape)
    first = torch.arange(0, count * height * width, height * width, device=batch.device)
    pixels = batch.permute(0, 2, 3, 1).reshape(-1, channels)
    found = pixels.index_select(0, (where + first.unsqueeze(1)).flatten())
    return found.view(count, height, width, channels).permute(0, 3, 1, 2)


@lru_cache(maxsize=8)
def _origins(height: int, width: int, device: torch.device) -> Tensor:
    """By the number of a flip or turn, int64 (kinds, H*W): which pixel comes to each place."""
    places = torch.arange(height * width).view(1, 1, height, width)
    every = [turned(places, kind).flatten() for kind in range(kinds(places))]
    return torch.stack(every).to(device)
