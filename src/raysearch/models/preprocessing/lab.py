"""CIE Lab (D65) of sRGB pixels, and back."""

from __future__ import annotations

import torch
from torch import Tensor

from raysearch.models.preprocessing.filters import in_bytes

# To XYZ by rows (IEC 61966-2-1), and the white that these add up to.
XYZ = (
    (0.4124564, 0.3575761, 0.1804375),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339, 0.1191920, 0.9503041),
)
# Below it the cube root is a line.
KNEE = 6 / 29
LIGHTEST = 100.0


def to_lab(pixels: Tensor) -> Tensor:
    """uint8 sRGB pixels (..., 3) as float64 L (0 to 100), a and b (..., 3)."""
    levels = torch.arange(256, dtype=torch.float64, device=pixels.device) / 255
    linear = torch.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    fractions = linear[pixels.int()] @ _matrix(pixels).T
    roots = torch.where(
        fractions > KNEE**3,
        fractions.clamp(min=KNEE**3) ** (1 / 3),
        fractions / (3 * KNEE**2) + 4 / 29,
    )
    x, y, z = roots.unbind(-1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=-1)


def from_lab(colours: Tensor) -> Tensor:
    """Float64 L, a and b (..., 3) as the nearest uint8 sRGB pixels (..., 3)."""
    light, a, b = colours.unbind(-1)
    y = (light + 16) / 116
    roots = torch.stack([y + a / 500, y, y - b / 200], dim=-1)
    fractions = torch.where(roots > KNEE, roots**3, 3 * KNEE**2 * (roots - 4 / 29))
    linear = (fractions @ torch.linalg.inv(_matrix(colours)).T).clamp(0, 1)
    curved = 1.055 * linear.clamp(min=0.0031308) ** (1 / 2.4) - 0.055
    return in_bytes(255 * torch.where(linear <= 0.0031308, 12.92 * linear, curved))


def _matrix(like: Tensor) -> Tensor:
    """Linear red, green and blue to X, Y and Z as shares of white, (3, 3)."""
    rows = torch.tensor(XYZ, dtype=torch.float64, device=like.device)
    return rows / rows.sum(dim=1, keepdim=True)
