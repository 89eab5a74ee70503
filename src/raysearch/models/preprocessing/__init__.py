"""The registry of preprocessing methods: transformations of the pixels before the network.

A method is a function of keyword-only hyperparameters. The modules are part of the exported
champion, so that inference sees the same pixels as training.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from raysearch.errors import SpaceError
from raysearch.models.preprocessing.filters import clahe, gaussian_blur, median_blur, sharpen
from raysearch.models.preprocessing.stain_normalization import (
    MACENKO_SIZE,
    REINHARD_SIZE,
    macenko_normalize,
    macenko_stains,
    reinhard_normalize,
    reinhard_statistics,
)


class Preprocessing(nn.Module):
    """A map from uint8 patches (B, H, W, 3) to uint8 patches, independently for each patch.

    Args:
        transform: The map; the identity if None.
    """

    def __init__(self, transform: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.transform = transform

    def fit(self, patches: Tensor) -> None:
        """Estimate parameters from training `patches` (B, H, W, 3); there are none here."""

    def forward(self, patches: Tensor) -> Tensor:
        """Return the transformed patches; the same tensor if there is no transform."""
        return patches if self.transform is None else self.transform(patches)


class StainNormalization(Preprocessing):
    """A map that gives the median stain of the training patches to each patch.

    Args:
        measure: Returns the stain parameters (B, size) of patches; NaN for a patch with too little
            tissue.
        normalize: Returns patches with the given stain parameters (size,).
        size: The number of stain parameters.
    """

    target: Tensor

    def __init__(
        self,
        measure: Callable[[Tensor], Tensor],
        normalize: Callable[[Tensor, Tensor], Tensor],
        size: int,
    ) -> None:
        super().__init__()
        self.measure, self.normalize = measure, normalize
        self.register_buffer("target", torch.full((size,), torch.nan, dtype=torch.float64))

    def fit(self, patches: Tensor) -> None:
        """Set the target to the median of each stain parameter; NaN if no patch has tissue."""
        self.target = self.measure(patches).nanmedian(dim=0).values

    def forward(self, patches: Tensor) -> Tensor:
        """Return the normalized patches; patches with too little tissue are unchanged."""
        return self.normalize(patches, self.target)


class CustomPreprocessing(Preprocessing):
    """A map of the user's.

    Args:
        transform: Maps uint8 patches (B, H, W, 3) to uint8 patches of the same shape. If it has a
            method `fit`, this is called with training patches first.
    """

    def __init__(self, transform: Callable[[Tensor], Tensor]) -> None:
        super().__init__(transform)
        is_fitted = hasattr(transform, "fit")
        if is_fitted and not (isinstance(transform, nn.Module) and transform.state_dict()):
            raise SpaceError(
                f"preprocessing {type(transform).__name__} has a method `fit`, and nothing that is"
                " stored with a model; make it a torch.nn.Module with its values in buffers"
            )

    def fit(self, patches: Tensor) -> None:
        """Call the method `fit` of the map, if it has one.

        Raises:
            ValueError: If it changes the shapes of the buffers.
        """
        fit = getattr(self.transform, "fit", None)
        if fit is None:
            return
        shapes = {name: value.shape for name, value in self.state_dict().items()}
        fit(patches)
        fitted = {name: value.shape for name, value in self.state_dict().items()}
        if fitted != shapes:
            raise ValueError(
                "`fit` changes the shapes of the buffers; create them with their shapes"
            )

    def forward(self, patches: Tensor) -> Tensor:
        """Return the transformed patches.

        Raises:
            ValueError: If they have another type or shape.
        """
        transformed = super().forward(patches)
        if transformed.dtype != torch.uint8 or transformed.shape != patches.shape:
            raise ValueError(
                f"the preprocessing returns {transformed.dtype} of shape"
                f" {tuple(transformed.shape)}; return uint8 of shape {tuple(patches.shape)}"
            )
        return transformed


def _none() -> Preprocessing:
    return Preprocessing()


def _sharpen() -> Preprocessing:
    return Preprocessing(sharpen)


def _median() -> Preprocessing:
    return Preprocessing(median_blur)


def _gaussian(*, blur_sigma: float) -> Preprocessing:
    return Preprocessing(partial(gaussian_blur, sigma=blur_sigma))


def _clahe(*, clahe_clip_limit: float, clahe_tile_grid: int) -> Preprocessing:
    return Preprocessing(partial(clahe, clip_limit=clahe_clip_limit, tile_grid=clahe_tile_grid))


def _reinhard() -> Preprocessing:
    return StainNormalization(reinhard_statistics, reinhard_normalize, REINHARD_SIZE)


def _macenko() -> Preprocessing:
    return StainNormalization(macenko_stains, macenko_normalize, MACENKO_SIZE)


PREPROCESSINGS: dict[str, Callable[..., Preprocessing]] = {
    "none": _none,
    "sharpen": _sharpen,
    "clahe": _clahe,
    "gaussian": _gaussian,
    "median": _median,
    "reinhard": _reinhard,
    "macenko": _macenko,
}
