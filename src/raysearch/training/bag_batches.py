"""Makes batches of bags: the features of the patches of slides."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def bag_batch(
    features: Tensor,
    bag_ends: NDArray[np.int64],
    rows: Tensor,
    max_patches: int = 0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return the features of the patches of slides as a batch.

    Args:
        features: The float16 features of all patches as bytes, uint8, shape (M, 2*D).
        bag_ends: The number of patches up to each slide and of it, shape (N,).
        rows: The slides, shape (B,).
        max_patches: Of each slide, at most so many patches are drawn; 0 for all.
        generator: A CPU generator, which draws them.

    Returns:
        float32, shape (B, 1, n, D), on the device of `rows`; NaN where a slide has no patch.
    """
    bags = [
        _drawn(_bag(features, bag_ends, row), max_patches, generator) for row in rows.cpu().tolist()
    ]
    batch = torch.full((len(bags), 1, max(map(len, bags)), bags[0].shape[1]), torch.nan)
    for number, bag in enumerate(bags):
        batch[number, 0, : len(bag)] = bag
    return batch.to(rows.device)


def _bag(features: Tensor, bag_ends: NDArray[np.int64], row: int) -> Tensor:
    """Return the features of a slide, float16, shape (patches, D)."""
    start = 0 if row == 0 else int(bag_ends[row - 1])
    return features[start : int(bag_ends[row])].view(torch.float16)


def _drawn(bag: Tensor, max_patches: int, generator: torch.Generator | None) -> Tensor:
    if not max_patches or len(bag) <= max_patches:
        return bag
    patches = torch.randperm(len(bag), generator=generator)[:max_patches]
    return bag[patches.sort().values]
