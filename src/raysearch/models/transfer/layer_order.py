"""A net as its layers in order, from the input to the head that names the classes."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn
from torchvision.models.vision_transformer import Encoder

# What only holds other layers, in the order in which they compute.
HOLDERS = (nn.Sequential, nn.ModuleList, Encoder)
DEEPEST = 2


class Head(nn.Sequential):
    """What stands between the features of a net and its classes."""


class Scaled(nn.Module):
    """A net behind the mean and standard deviation of the images that it was trained on.

    It takes batches (B, 3, H, W) from -1 to 1, as every net of this house. `mean` and `std` are of
    red, green and blue, from 0 to 1.
    """

    def __init__(self, net: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.net = net
        self.mean, self.std = mean, std

    def forward(self, batch: Tensor) -> Tensor:
        """The logits (B, classes) of `batch`."""
        mean, std = (batch.new_tensor(one).view(1, -1, 1, 1) for one in (self.mean, self.std))
        logits: Tensor = self.net(((batch + 1) / 2 - mean) / std)
        return logits


def inside(net: nn.Module) -> nn.Module:
    """The architecture itself, without what scales its input."""
    return net.net if isinstance(net, Scaled) else net


def head_name(net: nn.Module, classes: int) -> str:
    """The name, within `net`, of what gives the logits; empty where it ends in no linear layer.

    A `Head`, or the last linear layer with `classes` outputs.
    """
    heads = [name for name, layer in net.named_modules() if isinstance(layer, Head)]
    named = heads or [
        name
        for name, layer in net.named_modules()
        if isinstance(layer, nn.Linear) and layer.out_features == classes
    ]
    return named[-1] if named else ""


def blocks(net: nn.Module, head: str) -> list[tuple[str, nn.Module]]:
    """The layers of `net` with something to learn, in order, by name, without the one at `head`.

    A block or a stage of an architecture counts as one; a plain sequence as its members.
    """
    return [
        (name, layer)
        for name, layer in _members(net, ())
        if name != head and any(True for _ in layer.parameters())
    ]


def _members(net: nn.Module, path: tuple[str, ...]) -> Iterator[tuple[str, nn.Module]]:
    for name, layer in net.named_children():
        whole = (*path, name)
        if isinstance(layer, HOLDERS) and not isinstance(layer, Head) and len(whole) <= DEEPEST:
            yield from _members(layer, whole)
        else:
            yield ".".join(whole), layer
