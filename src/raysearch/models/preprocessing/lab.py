"""Conversion between uint8 sRGB pixels and the CIE Lab color space (illuminant D65)."""

from __future__ import annotations

import torch
from torch import Tensor

# Linear sRGB to XYZ (IEC 61966-2-1); the sums of the rows are the white point.
SRGB_TO_XYZ = (
    (0.4124564, 0.3575761, 0.1804375),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339, 0.1191920, 0.9503041),
)
# Below this value the cube root of Lab is replaced by a line.
LINEAR_BELOW = 6 / 29
MAX_LIGHTNESS = 100.0


def to_lab(pixels: Tensor) -> Tensor:
    """Convert uint8 sRGB pixels (..., 3) to float64 L (0 to 100), a and b (..., 3)."""
    levels = torch.arange(256, dtype=torch.float64, device=pixels.device) / 255
    curve = ((levels + float64(0.055)) / float64(1.055)) ** 2.4
    linear = torch.where(levels <= 0.04045, levels / float64(12.92), curve)
    xyz = linear[pixels.long()] @ _rgb_to_relative_xyz(pixels.device).T
    roots = torch.where(
        xyz > LINEAR_BELOW**3,
        xyz.clamp(min=LINEAR_BELOW**3) ** (1 / 3),
        xyz / float64(3 * LINEAR_BELOW**2) + float64(4 / 29),
    )
    x, y, z = roots.unbind(-1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=-1)


def from_lab(lab: Tensor) -> Tensor:
    """Convert float64 L, a and b (..., 3) to the nearest uint8 sRGB pixels (..., 3)."""
    lightness, a, b = lab.unbind(-1)
    y = (lightness + 16) / 116
    roots = torch.stack([y + a / 500, y, y - b / 200], dim=-1)
    line = float64(3 * LINEAR_BELOW**2) * (roots - float64(4 / 29))
    xyz = torch.where(roots > LINEAR_BELOW, roots**3, line)
    to_rgb = torch.tensor(RELATIVE_XYZ_TO_RGB, dtype=torch.float64, device=lab.device)
    linear = (xyz @ to_rgb.T).clamp(0, 1)
    curve = float64(1.055) * linear.clamp(min=0.0031308) ** (1 / 2.4) - float64(0.055)
    return to_uint8(255 * torch.where(linear <= 0.0031308, float64(12.92) * linear, curve))


def float64(number: float) -> Tensor:
    """Return a number as a tensor (), which computes with tensors of any device.

    An exported ONNX model has only 24 bits of a number beside a tensor, and all of a tensor.
    """
    return torch.tensor(number, dtype=torch.float64)


def to_uint8(values: Tensor) -> Tensor:
    """Round `values` to the nearest uint8."""
    return values.round().clamp(0, 255).to(torch.uint8)


def _rgb_to_relative_xyz(device: torch.device) -> Tensor:
    """Return the matrix (3, 3) from linear RGB to XYZ relative to the white point."""
    matrix = torch.tensor(SRGB_TO_XYZ, dtype=torch.float64, device=device)
    return matrix / matrix.sum(dim=1, keepdim=True)


# The inverse as numbers: a solver cannot be a part of an exported model.
RELATIVE_XYZ_TO_RGB = torch.linalg.inv(_rgb_to_relative_xyz(torch.device("cpu"))).tolist()
