"""The patch sizes that the built-in architectures accept, without building them.

A plan is printed without torch, which takes longer to import than a plan to create.
"""

from __future__ import annotations

from collections.abc import Mapping

from raysearch.config.hyperparameter_spec import Hparams
from raysearch.config.hyperparameters import resolve
from raysearch.config.names import IMAGE_ARCHITECTURES
from raysearch.models import PatchShape

# No network accepts smaller patches.
MIN_PATCH_SIDE = 8
# The smallest side, in pixels, that an architecture accepts; all larger ones are accepted, too.
# `check_patch_shape` of `raysearch.models.architectures.networks` finds the same by a forward pass.
MIN_SIDES: Mapping[str, int] = {
    **dict.fromkeys(IMAGE_ARCHITECTURES, MIN_PATCH_SIDE),
    "densenet121": 29,
    "convnext_tiny": 32,
    "vgg16": 32,
    "vgg19": 32,
    "googlenet": 15,
    "inception_v3": 75,
    "vit_b_16": 16,
}
VIT_PATCH_SIDE = 16


def is_accepted_shape(name: str, shape: PatchShape, hparams: Hparams) -> bool:
    """Return whether an architecture is known to accept patches of `shape`.

    False if it rejects them, and also if that is unknown without building the network: for the
    architectures of timm and of bags, and for a custom head.

    Args:
        name: The architecture.
        shape: The patch shape (H, W, 3).
        hparams: The hyperparameters of a trial; the others have their defaults.
    """
    params = resolve({**hparams, "architecture": name})
    height, width = (params.input_size, params.input_size) if params.input_size else shape[:2]
    if params.resize == "pad" and max(shape[:2]) > max(height, width):
        return False
    has_custom_head = params.head_hidden_units or params.head_batch_norm or params.head_dropout
    if name not in MIN_SIDES or has_custom_head:
        return False
    if name == "vit_b_16" and (height != width or height % VIT_PATCH_SIDE):
        return False
    min_side = MIN_SIDES[name]
    if name == "cnn":
        min_side = max(min_side, 2**params.stages)
    return min(height, width) >= min_side
