"""Pre-processing, by name: what is done to the pixels once, before a net sees them.

A builder's keyword-only parameters are the hyperparameters that a search space may name. All of it is torch,
so that it is exported with the champion, and what is registered sees the pixels that its training
saw.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from raysearch.models.preprocessing import filters, macenko, reinhard
from raysearch.models.preprocessing.clahe import equalised


class Preprocessing(nn.Module):
    """uint8 patches (B, H, W, 3) to uint8 patches, each for itself."""

    def __init__(self, change: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.change = change

    def fit(self, patches: Tensor) -> None:
        """Learn from the training's `patches` (B, H, W, 3) what there is to learn: nothing."""

    def forward(self, patches: Tensor) -> Tensor:
        """`patches`, changed; the very same tensor where there is nothing to do."""
        return patches if self.change is None else self.change(patches)


class StainNormalisation(Preprocessing):
    """Patches whose stain is that of a typical patch of the training.

    `measure` gives the `size` numbers of each patch's stain (B, size), NaN where it has too little
    tissue to tell; `towards` changes patches to what the numbers (size,) say.
    """

    target: Tensor

    def __init__(
        self,
        measure: Callable[[Tensor], Tensor],
        towards: Callable[[Tensor, Tensor], Tensor],
        size: int,
    ) -> None:
        super().__init__()
        self.measure, self.towards = measure, towards
        self.register_buffer("target", torch.full((size,), torch.nan, dtype=torch.float64))

    def fit(self, patches: Tensor) -> None:
        """Take each number's median over `patches` as the target; NaN where none has tissue."""
        self.target = self.measure(patches).nanmedian(dim=0).values

    def forward(self, patches: Tensor) -> Tensor:
        """`patches`, normalised; those with too little tissue as they are."""
        return self.towards(patches, self.target)


def _none() -> Preprocessing:
    return Preprocessing()


def _sharpen() -> Preprocessing:
    return Preprocessing(filters.sharpened)


def _median() -> Preprocessing:
    return Preprocessing(filters.median)


def _gaussian(*, blur_sigma: float = 1.0) -> Preprocessing:
    return Preprocessing(partial(filters.blurred, sigma=blur_sigma))


def _clahe(*, clahe_clip: float = 2.0, clahe_tiles: int = 2) -> Preprocessing:
    return Preprocessing(partial(equalised, clip=clahe_clip, tiles=clahe_tiles))


def _reinhard() -> Preprocessing:
    return StainNormalisation(reinhard.measured, reinhard.normalised, reinhard.SIZE)


def _macenko() -> Preprocessing:
    return StainNormalisation(macenko.measured, macenko.normalised, macenko.SIZE)


PREPROCESSINGS: dict[str, Callable[..., Preprocessing]] = {
    "none": _none,
    "sharpen": _sharpen,
    "clahe": _clahe,
    "gaussian": _gaussian,
    "median": _median,
    "reinhard": _reinhard,
    "macenko": _macenko,
}
