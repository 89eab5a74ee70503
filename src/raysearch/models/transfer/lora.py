"""Low-rank adaptation (LoRA; Hu et al., 2022) of the linear layers of a network, by peft.

An adapter adds `lora_alpha / lora_rank * B @ A` to the weight of a linear layer, which stays as it
is: A is (rank, inputs), B is (outputs, rank) and begins with zeros.
"""

from __future__ import annotations

import importlib
import re
from functools import cache
from typing import Any

import torch
from torch import nn

from raysearch.config.hyperparameters import TrialParams
from raysearch.config.names import ALL, ATTENTION, LORA, MLP
from raysearch.config.telemetry import turn_off_telemetry
from raysearch.errors import SpaceError
from raysearch.models.transfer.input_normalization import unwrap
from raysearch.models.transfer.network_layers import blocks, head_name, is_adapter

# The parts of the names of layers that are inside of attention, and of a multilayer perceptron.
ATTENTION_PARTS, MLP_PARTS = ("attn", "attention"), ("mlp",)
# By default, the scale of an adapter, `lora_alpha / lora_rank`.
DEFAULT_SCALE = 2.0
OTHER_ADAPTATIONS = "choose `full`, `last_blocks` or `frozen`, or add `when` to `adaptation`"


@cache
def peft_library() -> Any:
    """Import peft, which takes seconds, on the first use of an adapter."""
    turn_off_telemetry()
    return importlib.import_module("peft")


def with_adapters(net: nn.Module, params: TrialParams, num_classes: int) -> nn.Module:
    """Add the adapters of `params` to a network, in place; none unless `adaptation` is `lora`.

    Args:
        net: The network, as `build_network` builds it.
        params: The resolved hyperparameters.
        num_classes: The number of logits.

    Returns:
        `net`, of which only the adapters and the head have gradients if it has adapters.

    Raises:
        SpaceError: If the architecture has no linear layers of `lora_targets` that can be adapted.
    """
    if params.adaptation != LORA:
        return net
    architecture = unwrap(net)
    try:
        names = adapted_layers(architecture, num_classes, params.lora_targets)
    except SpaceError as error:
        raise SpaceError(f"architecture {params.architecture}: {error}") from None
    alpha, rank = params.lora_alpha, params.lora_rank
    peft = peft_library()
    config = peft.LoraConfig(
        r=rank,
        lora_alpha=DEFAULT_SCALE * rank if alpha is None else alpha,
        lora_dropout=params.lora_dropout,
        # A regular expression matches whole names, the names of a list also their ends.
        target_modules="|".join(map(re.escape, names)),
    )
    head = architecture.get_submodule(head_name(architecture, num_classes))
    peft.inject_adapter_in_model(config, architecture)
    head.requires_grad_(True)
    return net


def adapted_layers(net: nn.Module, num_classes: int, targets: str) -> list[str]:
    """Return the names of the linear layers inside of the blocks of `net` that get adapters.

    Args:
        net: The network, without the normalization of its input.
        num_classes: The number of logits.
        targets: `attention`, `mlp` (all others), or `all`.

    Raises:
        SpaceError: If it has none, or adapters of them would have no effect.
    """
    head = head_name(net, num_classes)
    if not head or getattr(net, "head_dist", None) is not None:
        number = "two heads" if head else "no linear head"
        raise SpaceError(
            f"`adaptation: {LORA}` needs one head, and it has {number}; {OTHER_ADAPTATIONS}"
        )
    kinds = {name: _kind(name) for name in _inner_layers(net, head)}
    names = [name for name, kind in kinds.items() if targets in (ALL, kind)]
    if not kinds:
        raise SpaceError(
            f"`adaptation: {LORA}` needs blocks with linear layers, as transformers have, and it"
            f" has none; {OTHER_ADAPTATIONS}"
        )
    if not names:
        other = MLP if targets == ATTENTION else ATTENTION
        raise SpaceError(
            f"its blocks have no linear layers of `lora_targets: {targets}`; choose `{other}`"
        )
    # Peft adapts it by adding to its weights, and subtracting again, in every forward pass, which
    # leaves other weights by rounding.
    if any(isinstance(net.get_submodule(name), nn.MultiheadAttention) for name in names):
        raise SpaceError(
            f"its attention is torch's MultiheadAttention, which `adaptation: {LORA}` cannot adapt;"
            f" choose `lora_targets: {MLP}`, or a transformer of timm"
        )
    return names


def _inner_layers(net: nn.Module, head: str) -> list[str]:
    """Return the names of the linear layers, and of torch's attention, inside of the blocks."""
    names: list[str] = []
    for block_name, block in blocks(net, head):
        attention: list[str] = []  # whose linear layers are parts of it
        for inner_name, layer in block.named_modules(prefix=block_name):
            is_part = any(inner_name.startswith(f"{name}.") for name in (*attention, head))
            if inner_name in (block_name, head) or is_part:
                continue
            if isinstance(layer, nn.MultiheadAttention):
                attention.append(inner_name)
            if isinstance(layer, (nn.Linear, nn.MultiheadAttention)):
                names.append(inner_name)
    return names


def _kind(name: str) -> str:
    """Return whether a layer is a part of attention, by the innermost part of its name."""
    for part in reversed(name.split(".")):
        if any(text in part for text in MLP_PARTS):
            return MLP
        if any(text in part for text in ATTENTION_PARTS):
            return ATTENTION
    return MLP


def layers_with_adapters(net: nn.Module) -> dict[str, nn.Module]:
    """Return the layers of peft in `net`, by name: a linear layer with its adapter each."""
    layer_class = peft_library().tuners.lora.LoraLayer
    return {name: layer for name, layer in net.named_modules() if isinstance(layer, layer_class)}


def merge_adapters(net: nn.Module) -> nn.Module:
    """Add the adapters of `net` to the weights of their layers, in place, and remove them.

    The result has the layers and the names of a network without adapters.

    Returns:
        `net`; unchanged if it has no adapters.
    """
    if not any(is_adapter(name) for name, _parameter in net.named_parameters()):
        return net
    for path, module in layers_with_adapters(net).items():
        layer: Any = module
        with torch.no_grad():
            layer.merge()
        parent, _, name = path.rpartition(".")
        net.get_submodule(parent).add_module(name, layer.get_base_layer())
    return net
