"""Grad-CAM overlays: the patch, and next to it the patch under its heatmap with a frame."""

from __future__ import annotations

import numpy as np

from raysearch.inference.grad_cam_overlays import FRAME_COLOR, overlay_image


def test_a_small_patch_is_enlarged_and_the_peak_region_framed() -> None:
    patch = np.full((50, 50, 3), 100, np.uint8)
    heatmap = np.zeros((50, 50), np.float32)
    heatmap[10:20, 30:40] = 1
    image = overlay_image(patch, heatmap)
    assert image.shape == (200, 404, 3)
    assert (image[:, :200] == 100).all()
    is_frame = (image[:, 204:] == FRAME_COLOR).all(axis=2)
    rows, columns = np.nonzero(is_frame)
    assert (rows.min(), rows.max()) == (40, 79)
    assert (columns.min(), columns.max()) == (120, 159)


def test_an_empty_heatmap_has_no_frame_and_a_large_patch_keeps_its_size() -> None:
    image = overlay_image(np.zeros((224, 224, 3), np.uint8), np.zeros((224, 224), np.float32))
    assert image.shape == (224, 452, 3)
    assert not (image[:, 228:] == FRAME_COLOR).all(axis=2).any()
