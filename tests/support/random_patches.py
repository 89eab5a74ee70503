"""Patches of random pixels."""

import numpy as np
import torch
from torch import Tensor


def random_patches(num_patches: int = 6, height: int = 20, width: int = 17) -> Tensor:
    """Return uint8 patches (B, H, W, 3) of independent uniform pixels."""
    rng = np.random.default_rng(3)
    return torch.from_numpy(rng.integers(0, 256, (num_patches, height, width, 3), np.uint8))
