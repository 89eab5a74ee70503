"""Converts batches in [-1, 1] to the input normalization that pretrained weights expect."""

from __future__ import annotations

from torch import Tensor, nn

from raysearch.config.names import IMAGENET, NO_WEIGHTS, TIMM_PREFIX
from raysearch.models.encoders.encoder import IMAGENET_MEAN, IMAGENET_STD, Encoder
from raysearch.models.timm_models import timm_library
from raysearch.models.transfer.input_size import ResizedInput


class NormalizedInput(nn.Module):
    """A network behind the standardization of its input.

    Args:
        net: The network.
        mean: The mean of red, green and blue in [0, 1].
        std: The standard deviation of red, green and blue in [0, 1].
    """

    def __init__(self, net: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.net = net
        self.mean, self.std = mean, std

    def forward(self, batch: Tensor) -> Tensor:
        """Return the logits (B, classes) of a batch (B, 3, H, W) in [-1, 1]."""
        mean, std = (batch.new_tensor(values).view(1, -1, 1, 1) for values in (self.mean, self.std))
        logits: Tensor = self.net(((batch + 1) / 2 - mean) / std)
        return logits


def unwrap(net: nn.Module) -> nn.Module:
    """Return the architecture itself, without the resizing and normalization of its input."""
    while isinstance(net, (NormalizedInput, ResizedInput)):
        net = net.net
    return net


def with_input_normalization(
    net: nn.Module,
    architecture: str,
    normalization: str,
    weights: str,
    encoder: Encoder | None = None,
) -> nn.Module:
    """Add the input normalization to `net`.

    Args:
        net: The network.
        architecture: Its name in the registry.
        normalization: `half` for an input in [-1, 1], `imagenet` for ImageNet's mean and standard
            deviation, `auto` for the normalization that the pretrained weights expect.
        weights: The pretrained weights: `none`, `imagenet`, `pretrained`, or a file.
        encoder: The description of the network if it is a pretrained encoder.
    """
    if normalization == "auto" and weights != NO_WEIGHTS and encoder is not None:
        return NormalizedInput(net, encoder.mean, encoder.std)
    if normalization == "auto" and weights == IMAGENET and architecture.startswith(TIMM_PREFIX):
        config = timm_library().get_pretrained_cfg(architecture.removeprefix(TIMM_PREFIX))
        return NormalizedInput(net, tuple(config.mean), tuple(config.std))
    if normalization == "imagenet" or (normalization == "auto" and weights == IMAGENET):
        return NormalizedInput(net, IMAGENET_MEAN, IMAGENET_STD)
    return net
