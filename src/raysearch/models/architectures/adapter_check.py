"""Checks that the adapters of LoRA take part in the forward pass of an architecture."""

from __future__ import annotations

import torch
from torch import nn

from raysearch.config.hyperparameter_spec import Hparams
from raysearch.config.hyperparameters import resolve
from raysearch.config.names import ATTENTION, LORA, MLP
from raysearch.errors import SpaceError
from raysearch.models import PatchShape
from raysearch.models.architectures.networks import build_network
from raysearch.models.transfer.lora import layers_with_adapters, with_adapters

NUM_CLASSES = 2


def check_adapters(name: str, shape: PatchShape, hparams: Hparams) -> None:
    """Check that LoRA fits an architecture.

    The network runs on torch's meta device, which computes shapes only.

    Args:
        name: The architecture, which accepts patches of `shape`.
        shape: The patch shape (H, W, 3).
        hparams: The hyperparameters of a trial with `adaptation: lora`.

    Raises:
        SpaceError: If its blocks have no linear layers of `lora_targets`, or it reads the weights
            of these without calling the layers, so that adapters would have no effect.
    """
    params = resolve({**hparams, "architecture": name})
    height, width, channels = shape
    called: set[nn.Module] = set()
    with torch.device("meta"), torch.no_grad():
        net = build_network(name, shape, NUM_CLASSES, hparams)
        layers = layers_with_adapters(with_adapters(net, params, NUM_CLASSES))
        for layer in layers.values():
            layer.register_forward_hook(lambda module, _inputs, _output: called.add(module))
        net.eval()(torch.empty(1, channels, height, width))
    uncalled = [layer_name for layer_name, layer in layers.items() if layer not in called]
    if uncalled:
        other = MLP if params.lora_targets != MLP else ATTENTION
        raise SpaceError(
            f"architecture {name}: it reads the weights of {uncalled[0]} without calling the layer,"
            f" so that `adaptation: {LORA}` has no effect there; choose `lora_targets: {other}`"
        )
