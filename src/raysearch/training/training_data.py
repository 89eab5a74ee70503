"""The data of a training: pixels and labels on the device, and the rows of each fold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raysearch.models import PatchShape


@dataclass(frozen=True)
class AuxiliaryRows:
    """Patches of other patients, used for training only.

    Attributes:
        pixels: uint8, shape (M, H*W*3), on the device of the study's pixels.
        labels: int64, shape (M,), on the same device.
        rows_id: As that of `TrainingData`.
    """

    pixels: Tensor
    labels: Tensor
    rows_id: str = ""


@dataclass(frozen=True)
class TrainingData:
    """All patches of a study on one device; trainings of the process share and never change them.

    Attributes:
        pixels: uint8, shape (N, H*W*3). Of bags, the float16 features of all patches as bytes,
            shape (M, 2*D), on the CPU.
        labels: int64, shape (N,).
        patients: The patient of each row, shape (N,).
        shape: The patch shape (H, W, 3).
        class_names: The names of the labels.
        folds: The training rows and the validation rows of each fold, int64, without common
            patients. The only fold of a refit is validated on a sample of its training rows.
        auxiliary: Additional training patches; their rows are numbered from N on, in order.
        rows_id: Identifies the patches, by the hash of their shards and the view of these; empty
            if they are not stored. Features of the patches are stored by it.
        bag_ends: Of bags, the number of patches up to each slide and of it, shape (N,); else None.
    """

    pixels: Tensor
    labels: Tensor
    patients: NDArray[np.str_]
    shape: PatchShape
    class_names: tuple[str, ...]
    folds: tuple[tuple[NDArray[np.int64], NDArray[np.int64]], ...]
    auxiliary: tuple[AuxiliaryRows, ...] = ()
    rows_id: str = ""
    bag_ends: NDArray[np.int64] | None = None

    def gather(self, rows: Tensor) -> Tensor:
        """Return the pixels of `rows` (B,), uint8 (B, H*W*3)."""
        if not self.auxiliary:
            return torch.index_select(self.pixels, 0, rows)
        gathered = self.pixels.new_empty((len(rows), self.pixels.shape[1]))
        start = 0
        for pixels in (self.pixels, *(auxiliary.pixels for auxiliary in self.auxiliary)):
            is_inside = (rows >= start) & (rows < start + len(pixels))
            positions = torch.nonzero(is_inside).flatten()
            selected = torch.index_select(pixels, 0, rows[positions] - start)
            gathered.index_copy_(0, positions, selected)
            start += len(pixels)
        return gathered

    @property
    def device(self) -> torch.device:
        """The device of the labels, on which the training runs."""
        return self.labels.device
