"""What a net wants its input to be: the mean and the spread of the images it was trained on."""

from __future__ import annotations

from torch import nn

from raysearch.models.architectures.timm_models import TIMM, library
from raysearch.models.transfer.layer_order import Scaled
from raysearch.models.transfer.pretrained_weights import IMAGENET

# Of ImageNet, in red, green and blue, as torchvision's weights were trained.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NORMALISATIONS = ("auto", "half", "imagenet")


def scaled(net: nn.Module, architecture: str, normalization: str, weights: str) -> nn.Module:
    """`net` behind ImageNet's mean and spread, or as it is, from -1 to 1 (`half`).

    `auto` takes, beside ImageNet's weights, what these were trained with.
    """
    if normalization == "auto" and weights == IMAGENET and architecture.startswith(TIMM):
        told = library().get_pretrained_cfg(architecture.removeprefix(TIMM))
        return Scaled(net, tuple(told.mean), tuple(told.std))
    if normalization == "imagenet" or (normalization == "auto" and weights == IMAGENET):
        return Scaled(net, MEAN, STD)
    return net
