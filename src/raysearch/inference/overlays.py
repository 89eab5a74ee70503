"""Patches with what their net saw: heat over the pixels, and a frame around what decided."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from raysearch.inference.image_files import Image
from raysearch.inference.model_loading import Model
from raysearch.models.grad_cam import activation, deciding_region

Floats = NDArray[np.float32]

# Smaller patches are shown larger, by whole pixels.
LEAST = 200
STRENGTH = 0.45
FRAME = (255, 255, 255)
EDGE = (0, 0, 0)


def maps_of(model: Model, pixels: Image, labels: NDArray[np.int64]) -> Floats:
    """Where `model` saw what speaks for `labels` (N,) in uint8 `pixels` (N, H, W, 3); (N, H, W)."""
    device = next(model.net.parameters()).device
    given = torch.from_numpy(np.ascontiguousarray(pixels)).to(device)
    found = activation(model.net, given, torch.from_numpy(labels).to(device))
    return np.asarray(found.numpy(), np.float32)


def coloured(values: Floats) -> Image:
    """0 to 1 in viridis, uint8 (..., 3): as bright as they are high, and clear to all eyes."""
    levels = np.clip(np.round(255 * values), 0, 255).astype(np.uint8)
    flat = cv2.applyColorMap(levels.reshape(-1, 1), cv2.COLORMAP_VIRIDIS)
    return np.asarray(flat[:, 0, ::-1], np.uint8).reshape(*levels.shape, 3)


def explained(patch: Image, found: Floats) -> Image:
    """The patch (H, W, 3), and beside it the same under its map `found` (H, W), framed."""
    scale = max(1, -(-LEAST // max(patch.shape[:2])))
    large = _enlarged(patch, scale)
    size = (large.shape[1], large.shape[0])
    heat = np.asarray(cv2.resize(found, size, interpolation=cv2.INTER_LINEAR), np.float32)
    right = np.asarray(cv2.addWeighted(large, 1 - STRENGTH, coloured(heat), STRENGTH, 0), np.uint8)
    region = deciding_region(torch.from_numpy(np.ascontiguousarray(found)))
    if region is not None:
        left, top, end, bottom = (one * scale for one in region)
        corner = (end + scale - 1, bottom + scale - 1)
        cv2.rectangle(right, (left, top), corner, EDGE, 3)
        cv2.rectangle(right, (left, top), corner, FRAME, 1)
    gap = np.full((large.shape[0], 4, 3), 255, np.uint8)
    return np.concatenate([large, gap, right], axis=1)


def _enlarged(patch: Image, scale: int) -> Image:
    return np.repeat(np.repeat(patch, scale, axis=0), scale, axis=1)
