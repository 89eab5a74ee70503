"""What a model scores, in numbered batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from raysearch.data.shards.patches import Inputs
from raysearch.data.sources.listing import Item, Rejected


@dataclass(frozen=True)
class Batch:
    """A batch of decoded patches.

    Attributes:
        items: Path, patient and position of each patch.
        labels: The class name of each patch, None if it has no label.
        inputs: uint8 (N, H*W*3), or the features of N slides.
        rejected: The files of the batch that could not be decoded.
        positions: Of slides, where their patches are, int32 (patches, 2), or None.
        resize_modes: Of patches, how each was brought to its size, as in shards.
    """

    items: list[Item]
    labels: list[str | None]
    inputs: Inputs
    rejected: list[Rejected]
    positions: Sequence[NDArray[np.int32] | None] = ()
    resize_modes: Sequence[str] = ()


class Source(Protocol):
    """Patches in numbered batches, each of which can be read any number of times."""

    @property
    def num_batches(self) -> int:
        """The number of batches."""

    @property
    def fingerprint(self) -> str:
        """A hash over the source's names and settings, without the pixels of image files."""

    @property
    def rejected(self) -> Sequence[Rejected]:
        """The files that were rejected before decoding."""

    def num_rows(self, number: int) -> int:
        """The number of patches of the batch with that number, with those that are rejected."""

    def read(self, number: int) -> Batch:
        """Read and decode the batch with that number."""


def label_names(items: Sequence[Item], class_names: tuple[str, ...]) -> list[str | None]:
    """Return the class of each item; None if it is unknown."""
    return [None if item.label is None else class_names[item.label] for item in items]
