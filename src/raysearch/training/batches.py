"""Makes the batches of an epoch: the order of the rows, and normalized, augmented tensors."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raysearch.models import PatchShape
from raysearch.models.classifier import normalize_pixels
from raysearch.models.dihedral import dihedral_transform, num_dihedral_transforms

# Rows (B,), and the weight of the loss of their labels. Mixup has two such pairs.
Targets = list[tuple[Tensor, float]]


def epoch_order(rows: NDArray[np.int64], seed: int, fold: int, epoch: int) -> NDArray[np.int64]:
    """Return `rows` (N,) shuffled; the order depends on (seed, fold, epoch) only."""
    return np.random.default_rng([seed, fold, epoch]).permutation(rows)


def balanced_order(
    rows: NDArray[np.int64], labels: NDArray[np.int64], seed: int, fold: int, epoch: int
) -> NDArray[np.int64]:
    """Return N of `rows` (N,), shuffled, with equal class counts up to one row.

    Rows of a small class are repeated, equally often up to one. Rows of a large class are sampled
    without replacement.
    """
    rng = np.random.default_rng([seed, fold, epoch])
    classes = np.unique(labels)
    class_order = rng.permutation(len(classes))
    sampled = []
    for position, label in enumerate(classes[class_order]):
        count = len(rows) // len(classes) + (position < len(rows) % len(classes))
        sampled.append(np.resize(rng.permutation(rows[labels == label]), count))
    return rng.permutation(np.concatenate(sampled))


def split_batches(rows: Tensor, batch_size: int) -> list[Tensor]:
    """Split `rows` (N,) into batches; a single last row joins the batch before it.

    Batch normalization needs at least two rows.
    """
    batches = list(torch.split(rows, batch_size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


def normalized_batch(
    stored: Tensor,
    shape: PatchShape,
    memory_format: torch.memory_format = torch.contiguous_format,
    dihedral_rng: torch.Generator | None = None,
) -> Tensor:
    """Convert stored patches to a batch in [-1, 1].

    The dihedral transforms are applied to bytes, which need a fourth of the memory of floats.

    Args:
        stored: uint8, shape (B, H*W*C).
        shape: The patch shape (H, W, C).
        memory_format: The memory format of the batch.
        dihedral_rng: A CPU generator. If given, each patch gets a random dihedral transform.

    Returns:
        float32, shape (B, C, H, W).
    """
    if dihedral_rng is None:
        pixels = stored.view(-1, *shape).permute(0, 3, 1, 2)
        return normalize_pixels(pixels.contiguous(memory_format=memory_format))
    height, width, channels = shape
    num_transforms = num_dihedral_transforms(height, width)
    transforms = torch.randint(num_transforms, (len(stored),), generator=dihedral_rng)
    transforms = transforms.to(stored.device)
    sources = _source_pixels(height, width, stored.device).index_select(0, transforms)
    pixels = stored.view(-1, height * width, channels)
    if memory_format == torch.channels_last:
        gathered = torch.gather(pixels, 1, sources.unsqueeze(2).expand(-1, -1, channels))
        return normalize_pixels(gathered).view(-1, *shape).permute(0, 3, 1, 2)
    sources = sources.unsqueeze(1).expand(-1, channels, -1)
    gathered = torch.gather(pixels.transpose(1, 2), 2, sources)
    return normalize_pixels(gathered).view(-1, channels, height, width)


@lru_cache(maxsize=8)
def _source_pixels(height: int, width: int, device: torch.device) -> Tensor:
    """Return the source pixel of each pixel under each transform, int64 (transforms, H*W)."""
    pixels = torch.arange(height * width).view(1, 1, height, width)
    sources = [
        dihedral_transform(pixels, index).flatten()
        for index in range(num_dihedral_transforms(height, width))
    ]
    return torch.stack(sources).to(device)


def mix_batch(
    batch: Tensor, rows: Tensor, fraction: float, generator: torch.Generator
) -> tuple[Tensor, Targets]:
    """Blend each patch with another patch of the batch (mixup, Zhang et al., 2018).

    Args:
        batch: Shape (B, C, H, W).
        rows: The rows of the patches, shape (B,).
        fraction: The weight of the patch itself; the other patch has the remaining weight.
        generator: A CPU generator.

    Returns:
        The blended batch, and its targets: the rows themselves and the rows of the other patches.
    """
    partners = torch.randperm(len(batch), generator=generator).to(batch.device)
    blended = torch.lerp(batch[partners], batch, fraction)
    return blended, [(rows, fraction), (rows[partners], 1 - fraction)]
