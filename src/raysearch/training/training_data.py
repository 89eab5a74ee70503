"""What a training reads: the pixels, their labels, and which rows are learned and which judged."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class AuxiliaryRows:
    """Patches of other patients, learned from and never judged.

    `pixels` is uint8 (M, H*W*3), `labels` int64 (M,), on the device of the study's own.
    """

    pixels: Tensor
    labels: Tensor


@dataclass(frozen=True)
class TrainingData:
    """Every patch of a study on one device, which the training does not own.

    `pixels` is uint8 (N, H*W*3), `labels` int64 (N,), `patients` text (N,), `shape` (H, W, 3).
    `folds` holds for each fold (rows to learn from, rows to judge by), int64, patients apart; a
    refit has one fold whose second half is empty. Rows from N on are those of `further`, in order.
    """

    pixels: Tensor
    labels: Tensor
    patients: NDArray[np.str_]
    shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    folds: tuple[tuple[NDArray[np.int64], NDArray[np.int64]], ...]
    further: tuple[AuxiliaryRows, ...] = ()

    def gather(self, rows: Tensor) -> Tensor:
        """The pixels of `rows` (B,), uint8 (B, H*W*3); those from N on are of `further`."""
        if not self.further:
            return torch.index_select(self.pixels, 0, rows)
        found = self.pixels.new_empty((len(rows), self.pixels.shape[1]))
        start = 0
        for pixels in (self.pixels, *(one.pixels for one in self.further)):
            here = torch.nonzero((rows >= start) & (rows < start + len(pixels))).flatten()
            found.index_copy_(0, here, torch.index_select(pixels, 0, rows[here] - start))
            start += len(pixels)
        return found

    @property
    def device(self) -> torch.device:
        """Where the pixels lie, and so where the training runs."""
        return self.pixels.device
