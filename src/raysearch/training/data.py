"""What a training reads: the pixels, their labels, and which rows are learned and which judged."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class TrainingData:
    """Every patch of a study on one device, which the training does not own.

    `pixels` is uint8 (N, H*W*3), `labels` int64 (N,), `patients` text (N,), `shape` (H, W, 3).
    `folds` holds for each fold (rows to learn from, rows to judge by), int64, patients apart; a
    refit has one fold whose second half is empty.
    """

    pixels: Tensor
    labels: Tensor
    patients: NDArray[np.str_]
    shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    folds: tuple[tuple[NDArray[np.int64], NDArray[np.int64]], ...]

    @property
    def device(self) -> torch.device:
        """Where the pixels lie, and so where the training runs."""
        return self.pixels.device
