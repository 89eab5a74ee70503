from collections.abc import Callable
from functools import partial
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from raysearch.models.preprocessing.filters import (
    clahe,
    equalize_levels,
    gaussian_blur,
    median_blur,
    sharpen,
)
from raysearch.models.preprocessing.lab import to_lab
from support.random_patches import random_patches


def by_opencv(transform: Callable[[Any], Any], patches: Tensor) -> NDArray[np.int64]:
    return np.stack([transform(patch) for patch in patches.numpy()]).astype(np.int64)


def test_sharpening_is_clipped_and_reflects_the_border() -> None:
    gray = torch.tensor([[10, 20, 30], [40, 200, 60], [70, 80, 90]], dtype=torch.uint8)
    sharpened = sharpen(gray[None, :, :, None].expand(1, 3, 3, 3))[0, :, :, 0]
    # Top left: 5 * 10 - 2 * 40 - 2 * 20, which is below 0; bottom right: 450 - 2 * 60 - 2 * 80.
    # The center: 1000 - 20 - 40 - 60 - 80, which is above 255.
    assert sharpened.tolist() == [[0, 0, 0], [0, 255, 0], [110, 0, 170]]


def test_filters_equal_those_of_opencv() -> None:
    patches = random_patches()
    kernel = np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0]], np.float32)
    reference = by_opencv(lambda patch: cv2.filter2D(patch, -1, kernel), patches)
    assert np.array_equal(sharpen(patches).numpy(), reference)
    reference = by_opencv(lambda patch: cv2.medianBlur(patch, 3), patches)
    assert np.array_equal(median_blur(patches).numpy(), reference)
    for sigma, size in ((0.5, 5), (1.0, 7), (2.0, 13)):
        blur = partial(cv2.GaussianBlur, ksize=(size, size), sigmaX=sigma)
        reference = by_opencv(blur, patches)
        difference = np.abs(gaussian_blur(patches, sigma).numpy().astype(np.int64) - reference)
        assert difference.max() <= 2  # the kernel of OpenCV has 8 bits
        assert difference.mean() < 0.3


@pytest.mark.parametrize("shape", [(50, 50), (48, 48), (33, 70)])
@pytest.mark.parametrize(("clip_limit", "tile_grid"), [(2.0, 4), (40.0, 8), (0.1, 1)])
def test_the_equalization_of_gray_levels_equals_that_of_opencv(
    shape: tuple[int, int], clip_limit: float, tile_grid: int
) -> None:
    gray = np.random.default_rng(0).integers(60, 200, (4, *shape), np.uint8)
    reference = cv2.createCLAHE(clip_limit, (tile_grid, tile_grid))
    levels = equalize_levels(torch.from_numpy(gray).long(), clip_limit, tile_grid).numpy()
    assert np.array_equal(levels, np.stack([reference.apply(patch) for patch in gray]))


def test_clahe_changes_the_lightness_and_hardly_the_color() -> None:
    patches = (random_patches() // 4) + 90
    before = to_lab(patches)
    after = to_lab(clahe(patches, clip_limit=4.0, tile_grid=2))
    assert after[..., 0].std() > 2 * before[..., 0].std()
    assert (after - before)[..., 1:].abs().mean() < 0.5
