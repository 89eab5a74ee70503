"""Finds the head and the blocks of any network, and replaces its head."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from torch import nn

from raysearch.errors import SpaceError
from raysearch.models.encoders.encoder_network import EncoderNetwork

# Modules that contain other layers, in the order in which these run.
CONTAINERS = (nn.Sequential, nn.ModuleList)
# torchvision's module with such a class; only a network of torchvision imports it.
ENCODER_MODULE = "torchvision.models.vision_transformer"
MAX_CONTAINER_DEPTH = 2


# What the names of the tensors of LoRA's adapters contain.
ADAPTER_MATRICES = (".lora_A.", ".lora_B.")


class Head(nn.Sequential):
    """The layers between the features of a network and its logits."""


def is_adapter(name: str) -> bool:
    """Return whether a tensor or a layer with that name belongs to an adapter."""
    return any(matrix in name for matrix in ADAPTER_MATRICES)


def head_name(net: nn.Module, num_classes: int) -> str:
    """Return the name of the submodule of `net` that computes the logits.

    It is a `Head`, or the last linear layer with `num_classes` outputs, but for those of adapters;
    empty if there is none.
    """
    names = [name for name, layer in net.named_modules() if isinstance(layer, Head)] or [
        name
        for name, layer in net.named_modules()
        if isinstance(layer, nn.Linear)
        and layer.out_features == num_classes
        and not is_adapter(name)
    ]
    return names[-1] if names else ""


def blocks(net: nn.Module, head: str) -> list[tuple[str, nn.Module]]:
    """Return the layers of `net` with parameters, by name, from the input to the output.

    A block or a stage of an architecture is one layer; the members of a plain sequence are separate
    layers. The layer named `head` is left out.
    """
    layers = list(_layers(net, ()))
    if isinstance(net, EncoderNetwork):
        layers = [(f"encoder.{name}", layer) for name, layer in _layers(net.encoder, ())]
    return [
        (name, layer)
        for name, layer in layers
        if name != head and any(True for _ in layer.parameters())
    ]


def _is_container(layer: nn.Module) -> bool:
    module = sys.modules.get(ENCODER_MODULE)
    is_transformers = type(layer).__module__.startswith("transformers.")
    return (
        isinstance(layer, CONTAINERS)
        or (module is not None and isinstance(layer, module.Encoder))
        or (is_transformers and type(layer).__name__.endswith("Encoder"))
    )


def _layers(net: nn.Module, parent: tuple[str, ...]) -> Iterator[tuple[str, nn.Module]]:
    for name, layer in net.named_children():
        path = (*parent, name)
        is_container = _is_container(layer) and not isinstance(layer, Head)
        if is_container and len(path) <= MAX_CONTAINER_DEPTH:
            yield from _layers(layer, path)
        else:
            yield ".".join(path), layer


def dense_layers(num_features: int, num_units: int, num_layers: int) -> list[nn.Module]:
    """Return `num_layers` fully connected layers of `num_units`, each with ReLU; none of 0 units.

    Args:
        num_features: The number of inputs of the first layer.
        num_units: The number of units of each layer.
        num_layers: The number of layers.
    """
    layers: list[nn.Module] = []
    for num_inputs in [num_features, *[num_units] * (num_layers - 1)] if num_units else []:
        layers += [nn.Linear(num_inputs, num_units), nn.ReLU(inplace=True)]
    return layers


def with_custom_head(
    net: nn.Module,
    num_classes: int,
    *,
    head_hidden_units: int,
    head_hidden_layers: int,
    head_batch_norm: bool,
    head_dropout: float,
) -> nn.Module:
    """Replace the last linear layer of `net` by a `Head`; nothing is replaced by default.

    The head is: batch normalization, hidden layers with ReLU, dropout, a linear layer. Each of the
    first three is optional.

    Args:
        net: The network, which is changed in place.
        num_classes: The number of logits.
        head_hidden_units: The number of units of each hidden layer; 0 for no hidden layer.
        head_hidden_layers: The number of hidden layers, if they have units.
        head_batch_norm: Whether the head begins with batch normalization.
        head_dropout: The dropout before the last layer; 0 for none.

    Raises:
        SpaceError: If the network does not end in a linear layer.
    """
    if not (head_hidden_units or head_batch_norm or head_dropout):
        return net
    path = head_name(net, num_classes)
    if not path:
        raise SpaceError(
            "the net does not end in a linear layer; leave out the hyperparameters `head_...`"
        )
    parent, _, name = path.rpartition(".")
    num_features: int = net.get_submodule(path).in_features  # type: ignore[assignment]
    layers: list[nn.Module] = [nn.BatchNorm1d(num_features)] if head_batch_norm else []
    layers += dense_layers(num_features, head_hidden_units, head_hidden_layers)
    if head_dropout:
        layers.append(nn.Dropout(head_dropout))
    layers.append(nn.Linear(head_hidden_units or num_features, num_classes))
    net.get_submodule(parent).add_module(name, Head(*layers))
    return net
