"""Where in a patch a net saw what it decided on: class-activation maps."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from raysearch.models.classifier import Classifier, PatchClassifier, normalised
from raysearch.models.dihedral import DihedralMean

# A map of fewer places a side says nothing of where.
MIN_SIDE = 4
# From this share of the way up from a map's lowest place, one belongs to the region that decided.
DECIDING = 0.7


def activation(model: Classifier, pixels: Tensor, labels: Tensor) -> Tensor:
    """How much each place of uint8 `pixels` (B, H, W, 3) speaks for its class in `labels` (B,).

    float32 (B, H, W), 0 to 1, by the gradients at the last layer that still has places (Selvaraju
    et al., 2017, "Grad-CAM"): convolutions, or the tokens of a transformer. Of the patch as it is,
    without the flips and turns that a model may average over; of an ensemble, the mean of its
    members'. All 0 where nothing speaks for it.
    """
    members = (one for one in model.modules() if isinstance(one, PatchClassifier))
    return torch.stack([_activation(one, pixels, labels) for one in members]).mean(dim=0)


@torch.enable_grad()
def _activation(model: PatchClassifier, pixels: Tensor, labels: Tensor) -> Tensor:
    net = model.net.net if isinstance(model.net, DihedralMean) else model.net
    seen: list[Tensor] = []

    def note(_layer: nn.Module, _given: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.requires_grad and _places(output):
            output.retain_grad()
            seen.append(output)

    hooks = [layer.register_forward_hook(note) for layer in net.modules()]
    try:
        with torch.no_grad():
            prepared = normalised(model.preprocessing(pixels).permute(0, 3, 1, 2))
        logits = net(prepared.requires_grad_()).float()
        logits.gather(1, labels.view(-1, 1)).sum().backward()
    finally:
        for hook in hooks:
            hook.remove()
        net.zero_grad(set_to_none=True)
    height, width = pixels.shape[1:3]
    for layer in reversed(seen):
        gradients = None if layer.grad is None else _spread(layer.grad)
        # Of a transformer's last tokens only the class's own is read.
        if gradients is not None and gradients.any():
            return _map(_spread(layer.detach()), gradients, (height, width))
    return torch.zeros(len(pixels), height, width)


def _places(output: Tensor) -> bool:
    """Whether `output` has enough places a side, of feature maps or of tokens."""
    if output.ndim in (4, 5):
        return min(output.shape[-2:]) >= MIN_SIDE
    return output.ndim == 3 and _token_side(output) >= MIN_SIDE


def _token_side(tokens: Tensor) -> int:
    """The side of the square of `tokens` (B, T, C), one before them being the class's; or 0."""
    for count in (tokens.shape[1], tokens.shape[1] - 1):
        side = math.isqrt(max(count, 0))
        if side * side == count:
            return side
    return 0


def _spread(output: Tensor) -> Tensor:
    """Feature maps (B, C, h, w) of what may be tokens, or maps by their turns (B, C, T, h, w)."""
    if output.ndim in (4, 5):
        return output.float().flatten(1, -3)
    side = _token_side(output)
    return output[:, -side * side :].transpose(1, 2).float().reshape(len(output), -1, side, side)


def _map(features: Tensor, gradients: Tensor, size: tuple[int, int]) -> Tensor:
    weights = gradients.mean(dim=(2, 3), keepdim=True)
    raw = functional.relu((weights * features).sum(dim=1, keepdim=True))
    large = functional.interpolate(raw, size, mode="bilinear", align_corners=False).squeeze(1)
    highest = large.amax(dim=(1, 2), keepdim=True)
    return (large / torch.where(highest > 0, highest, 1.0)).cpu()


def deciding_region(found: Tensor) -> tuple[int, int, int, int] | None:
    """The smallest frame (left, top, right, bottom), bounds within, around what decided.

    Of a map (H, W), the places around its highest that are connected with it from .7 of the way
    from the lowest: a map that is high all over has a peak, too. None where it is 0 everywhere.
    """
    if float(found.max()) <= 0:
        return None
    lowest, highest = found.min(), found.max()
    high = (found >= lowest + DECIDING * (highest - lowest)).float()[None]
    region = torch.zeros_like(high)
    region.view(-1)[found.argmax()] = 1.0
    while True:
        grown = functional.max_pool2d(region, 3, stride=1, padding=1) * high
        if torch.equal(grown, region):
            break
        region = grown
    down, across = torch.where(region[0] > 0)
    return int(across.min()), int(down.min()), int(across.max()), int(down.max())
