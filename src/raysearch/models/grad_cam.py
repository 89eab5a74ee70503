"""Grad-CAM: shows which regions of a patch contribute to a class (Selvaraju et al., 2017)."""

from __future__ import annotations

import math
import re
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from raysearch.models.classifier import Classifier, PatchClassifier, normalize_pixels
from raysearch.models.dihedral import DihedralMean

# A feature map with a smaller side is too coarse to localize anything.
MIN_SIDE = 4
# The parts of attention, in the names of timm, torchvision and transformers.
ATTENTION = re.compile(r"\battn\.|attention\.")
# The peak region contains the values from this fraction of the range between minimum and maximum.
REGION_LEVEL = 0.7


def grad_cam(model: Classifier, pixels: Tensor, labels: Tensor) -> Tensor:
    """Compute the Grad-CAM heatmap of each patch for its class.

    The heatmap uses the last layer whose output has spatial positions: feature maps of a
    convolutional network, patch tokens of a transformer. Test-time augmentation is skipped. The
    heatmap of an ensemble is the mean of the heatmaps of its members.

    Args:
        model: A trained classifier in evaluation mode.
        pixels: uint8, shape (B, H, W, 3).
        labels: The class to explain for each patch, shape (B,).

    Returns:
        float32 heatmaps in [0, 1], shape (B, H, W), on the CPU. All values are 0 if no region
        contributes to the class.
    """
    members = (module for module in model.modules() if isinstance(module, PatchClassifier))
    return torch.stack([_member_heatmaps(member, pixels, labels) for member in members]).mean(dim=0)


@torch.enable_grad()
def _member_heatmaps(model: PatchClassifier, pixels: Tensor, labels: Tensor) -> Tensor:
    net = model.net.net if isinstance(model.net, DihedralMean) else model.net
    spatial_outputs: list[Tensor] = []
    num_prefix_tokens = _num_prefix_tokens(net)

    def record_output(_layer: nn.Module, _inputs: Any, output: Any) -> None:
        is_tensor = isinstance(output, Tensor) and output.requires_grad
        if is_tensor and _is_spatial(output, num_prefix_tokens):
            output.retain_grad()
            spatial_outputs.append(output)

    # Inside of its attention, a transformer has queries and keys of shape (B, heads, tokens, D).
    hooks = [
        layer.register_forward_hook(record_output)
        for name, layer in net.named_modules()
        if not ATTENTION.search(name)
    ]
    try:
        with torch.no_grad():
            batch = normalize_pixels(model.preprocessing(pixels).permute(0, 3, 1, 2))
        logits = net(batch.requires_grad_()).float()
        logits.gather(1, labels.view(-1, 1)).sum().backward()
    finally:
        for hook in hooks:
            hook.remove()
        net.zero_grad(set_to_none=True)
    height, width = pixels.shape[1:3]
    for output in reversed(spatial_outputs):
        gradient = output.grad
        gradients = None if gradient is None else _to_feature_maps(gradient, num_prefix_tokens)
        # After its last attention block, a transformer reads the class token only: all other
        # gradients are 0 there.
        if gradients is not None and gradients.any():
            features = _to_feature_maps(output.detach(), num_prefix_tokens)
            return _heatmaps(features, gradients, (height, width))
    return torch.zeros(len(pixels), height, width)


def _num_prefix_tokens(net: nn.Module) -> int:
    """Return the number of tokens before those of the patches; 1 if it is unknown."""
    numbers = [getattr(module, "num_prefix_tokens", None) for module in net.modules()]
    return next((number for number in numbers if isinstance(number, int)), 1)


def _is_spatial(output: Tensor, num_prefix_tokens: int) -> bool:
    """Return whether `output`, feature maps or tokens, has at least `MIN_SIDE` positions a side."""
    if output.ndim in (4, 5):
        return min(output.shape[-2:]) >= MIN_SIDE
    return output.ndim == 3 and _token_grid_side(output, num_prefix_tokens) >= MIN_SIDE


def _token_grid_side(tokens: Tensor, num_prefix_tokens: int) -> int:
    """Return the side of the square grid of `tokens` (B, T, C), or 0 if they form none.

    The grid may be preceded by `num_prefix_tokens`, such as a class token and registers.
    """
    for num_patch_tokens in (tokens.shape[1] - num_prefix_tokens, tokens.shape[1]):
        side = math.isqrt(max(num_patch_tokens, 0))
        if side * side == num_patch_tokens:
            return side
    return 0


def _to_feature_maps(output: Tensor, num_prefix_tokens: int) -> Tensor:
    """Reshape `output` to feature maps (B, C, h, w).

    `output` has feature maps (B, C, h, w), feature maps of a group convolution (B, C, G, h, w), or
    tokens (B, T, C).
    """
    if output.ndim in (4, 5):
        return output.float().flatten(1, -3)
    side = _token_grid_side(output, num_prefix_tokens)
    return output[:, -side * side :].transpose(1, 2).float().reshape(len(output), -1, side, side)


def _heatmaps(features: Tensor, gradients: Tensor, size: tuple[int, int]) -> Tensor:
    weights = gradients.mean(dim=(2, 3), keepdim=True)
    coarse = functional.relu((weights * features).sum(dim=1, keepdim=True))
    heatmaps = functional.interpolate(coarse, size, mode="bilinear", align_corners=False).squeeze(1)
    maximum = heatmaps.amax(dim=(1, 2), keepdim=True)
    return (heatmaps / torch.where(maximum > 0, maximum, 1.0)).cpu()


def peak_region(heatmap: Tensor) -> tuple[int, int, int, int] | None:
    """Return the bounding box of the region around the maximum of `heatmap` (H, W).

    The region contains the pixels that are connected with the maximum by pixels with at least
    `REGION_LEVEL` of the range between the minimum and the maximum.

    Returns:
        (left, top, right, bottom), inclusive; None if the heatmap is 0 everywhere.
    """
    if float(heatmap.max()) <= 0:
        return None
    minimum, maximum = heatmap.min(), heatmap.max()
    is_high = (heatmap >= minimum + REGION_LEVEL * (maximum - minimum)).float()[None]
    region = torch.zeros_like(is_high)
    region.view(-1)[heatmap.argmax()] = 1.0
    while True:
        dilated = functional.max_pool2d(region, 3, stride=1, padding=1) * is_high
        if torch.equal(dilated, region):
            break
        region = dilated
    rows, columns = torch.where(region[0] > 0)
    return int(columns.min()), int(rows.min()), int(columns.max()), int(rows.max())
