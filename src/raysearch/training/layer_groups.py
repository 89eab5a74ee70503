"""Which layers of a net learn, and how fast: frozen ones, a head that learns first, by depth."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from raysearch.models.transfer.layer_order import blocks, head_name, inside

Groups = list[dict[str, Any]]


class Layers:
    """The layers of `model`, a net of `classes`, in order.

    The first `frozen` blocks learn nothing, and their batch norms keep the means that they have;
    all of them where there are no more. The learning rate of a block is `layer_decay` times that
    of the one after it; the head's is whole. `head_weight_decay` is the head's own, where given.
    """

    def __init__(
        self,
        model: nn.Module,
        classes: int,
        *,
        frozen: int = 0,
        layer_decay: float = 1.0,
        head_weight_decay: float | None = None,
    ) -> None:
        self.model, self.layer_decay, self.head_weight_decay = model, layer_decay, head_weight_decay
        net = inside(model)
        name = head_name(net, classes)
        self.head = [net.get_submodule(name)] if name else []
        self.blocks = [layer for _name, layer in blocks(net, name)]
        held = {id(one) for layer in (*self.blocks, *self.head) for one in layer.parameters()}
        # A transformer's class token and positions stand before its first block.
        self.stem = [one for one in net.parameters() if id(one) not in held]
        self.frozen = self.blocks[:frozen]

    def hold(self, head_only: bool) -> None:
        """Let those parameters learn that are to: the head's alone, or all but the frozen ones."""
        for one in self.model.parameters():
            one.requires_grad_(not head_only)
        for layer in self.head:
            layer.requires_grad_(True)
        for layer in self.frozen:
            layer.requires_grad_(False)
        if self.frozen:
            for one in self.stem:
                one.requires_grad_(False)

    def train(self, head_only: bool) -> None:
        """Training mode, but for what does not learn."""
        self.model.train()
        for layer in self.blocks if head_only else self.frozen:
            layer.eval()

    def groups(self) -> Groups:
        """The parameters for an optimizer, with the share of the learning rate that each has."""
        count = len(self.blocks)
        by_depth: list[tuple[list[nn.Parameter], int]] = [(self.stem, count)]
        by_depth += [(list(layer.parameters()), count - at) for at, layer in enumerate(self.blocks)]
        fractions = [(some, self.layer_decay**depth) for some, depth in by_depth]
        if self.layer_decay == 1:
            fractions = [([one for some, _fraction in fractions for one in some], 1.0)]
        found: Groups = [
            {"params": some, "fraction": fraction} for some, fraction in fractions if some
        ]
        head = {
            "params": [one for layer in self.head for one in layer.parameters()],
            "fraction": 1.0,
        }
        if self.head_weight_decay is not None:
            head["weight_decay"] = self.head_weight_decay
        return [*found, head] if head["params"] else found

    @property
    def plain(self) -> bool:
        """Whether all layers learn alike."""
        return self.layer_decay == 1 and self.head_weight_decay is None


def slowed(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """`optimizer` with each group's learning rate by the share that the group says."""
    for group in optimizer.param_groups:
        group["lr"] *= group.pop("fraction", 1.0)
    return optimizer
