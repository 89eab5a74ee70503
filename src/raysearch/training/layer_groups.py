"""Divides a network into its head and its blocks: freezing, and learning rates by depth."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from raysearch.models.transfer.input_normalization import unwrap
from raysearch.models.transfer.network_layers import blocks, head_name, is_adapter

ParameterGroups = list[dict[str, Any]]  # as torch.optim.Optimizer takes them
# The key of a parameter group for its learning rate, as a fraction of that of the optimizer.
LR_FRACTION = "lr_fraction"


class LayerGroups:
    """The head, the blocks and the stem of a network, for transfer learning.

    The stem are the parameters outside of any block, such as the class token and the position
    embedding of a transformer. They are frozen if any block is.

    If the network has adapters (LoRA), only these and the head are trained.

    Args:
        model: The network.
        num_classes: The number of its logits.
        frozen_blocks: The number of blocks, from the input, that are not trained; their batch
            normalization keeps its statistics. All blocks are frozen if there are fewer.
        trained_blocks: The number of blocks, from the output, that are trained, instead of all but
            `frozen_blocks`; None for these.
        layer_decay: The learning rate of a block, relative to the block after it.
        head_weight_decay: The weight decay of the head; that of the optimizer if None.
    """

    def __init__(
        self,
        model: nn.Module,
        num_classes: int,
        *,
        frozen_blocks: int,
        layer_decay: float,
        head_weight_decay: float | None,
        trained_blocks: int | None,
    ) -> None:
        self.model, self.layer_decay, self.head_weight_decay = model, layer_decay, head_weight_decay
        net = unwrap(model)
        name = head_name(net, num_classes)
        self.head = [net.get_submodule(name)] if name else []
        # The head may be a part of the last block.
        self._head_tensors = {
            id(tensor)
            for layer in self.head
            for tensor in layer.state_dict(keep_vars=True).values()
        }
        self.adapters = [
            parameter for name, parameter in net.named_parameters() if is_adapter(name)
        ]
        self.blocks = [layer for _name, layer in blocks(net, name)]
        in_layers = {
            id(parameter)
            for layer in (*self.blocks, *self.head)
            for parameter in layer.parameters()
        }
        self.stem = [parameter for parameter in net.parameters() if id(parameter) not in in_layers]
        if trained_blocks is not None:
            frozen_blocks = max(0, len(self.blocks) - trained_blocks)
        if self.adapters:  # all weights but those of the adapters are frozen
            frozen_blocks = 0
        self.frozen_blocks = self.blocks[:frozen_blocks]

    def freeze(self, *, head_only: bool) -> None:
        """Freeze the parameters that are not trained.

        Args:
            head_only: Train the head only; else all but the frozen blocks.
        """
        self.model.requires_grad_(not head_only and not self.adapters)
        for layer in self.frozen_blocks:
            layer.requires_grad_(False)
        if self.frozen_blocks:
            for parameter in self.stem:
                parameter.requires_grad_(False)
        for parameter in self.adapters:
            parameter.requires_grad_(not head_only)
        for layer in self.head:
            layer.requires_grad_(True)

    def train(self, *, head_only: bool) -> None:
        """Set the training mode, and the evaluation mode of the blocks that are not trained.

        Blocks with adapters are in training mode, but for their batch normalization.
        """
        self.model.train()
        for layer in self.blocks if head_only else self.frozen_blocks:
            layer.eval()
        if self.adapters:
            for layer in self.model.modules():
                if isinstance(layer, _BatchNorm):
                    layer.eval()
        for layer in self.head:
            layer.train()

    def parameters(self) -> list[nn.Parameter]:
        """Return the parameters for an optimizer."""
        return self._optimized(self.model.parameters())

    def _optimized(self, parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
        """Return those of `parameters` that an optimizer gets: of LoRA, those that are trained."""
        return [
            parameter for parameter in parameters if parameter.requires_grad or not self.adapters
        ]

    def trained_tensors(self) -> frozenset[str] | None:
        """Return the names of the parameters and buffers that a training changes; None for all.

        With adapters, these and the tensors of the head.
        """
        if not self.adapters:
            return None
        return frozenset(
            name
            for name, tensor in self.model.state_dict(keep_vars=True).items()
            if id(tensor) in self._head_tensors or is_adapter(name)
        )

    def parameter_groups(self) -> ParameterGroups:
        """Return the parameter groups for an optimizer, each with its `LR_FRACTION`."""
        num_blocks = len(self.blocks)
        depths = [
            (self._optimized(self.stem), num_blocks),
            *(
                (self._optimized(self._without_head(layer)), num_blocks - number)
                for number, layer in enumerate(self.blocks)
            ),
        ]
        groups: ParameterGroups
        if self.layer_decay == 1:
            all_parameters = [
                parameter for parameters, _depth in depths for parameter in parameters
            ]
            groups = [{"params": all_parameters, LR_FRACTION: 1.0}]
        else:
            groups = [
                {"params": parameters, LR_FRACTION: self.layer_decay**depth}
                for parameters, depth in depths
            ]
        head_parameters = [parameter for layer in self.head for parameter in layer.parameters()]
        head_group: dict[str, Any] = {"params": head_parameters, LR_FRACTION: 1.0}
        if self.head_weight_decay is not None:
            head_group["weight_decay"] = self.head_weight_decay
        return [group for group in (*groups, head_group) if group["params"]]

    def _without_head(self, layer: nn.Module) -> list[nn.Parameter]:
        """Return the parameters of a block without those of the head."""
        return [each for each in layer.parameters() if id(each) not in self._head_tensors]

    @property
    def is_uniform(self) -> bool:
        """Whether all layers have the same learning rate and weight decay."""
        return self.layer_decay == 1 and self.head_weight_decay is None


def scale_learning_rates(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Multiply the learning rate of each parameter group by its `LR_FRACTION`."""
    for group in optimizer.param_groups:
        group["lr"] *= group.pop(LR_FRACTION, 1.0)
    return optimizer
