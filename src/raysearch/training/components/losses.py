"""Losses, a row at a time: logits (B, classes), labels (B,) and class weights give (B,)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

# A power below 1 has no slope at 0.
SMALLEST = 1e-6


def cross_entropy(
    logits: Tensor, labels: Tensor, weight: Tensor | None, *, label_smoothing: float = 0.0
) -> Tensor:
    """Cross entropy; `label_smoothing` of each label goes to all classes (Szegedy et al., 2016)."""
    return functional.cross_entropy(
        logits, labels, weight, reduction="none", label_smoothing=label_smoothing
    )


def focal(
    logits: Tensor, labels: Tensor, weight: Tensor | None, *, focal_gamma: float = 2.0
) -> Tensor:
    """Cross entropy times (1 - p) ** `focal_gamma`, p being the label's (Lin et al., 2017)."""
    logs = torch.log_softmax(logits, dim=1)
    sure = logs.gather(1, labels[:, None]).squeeze(1).exp()
    loss = functional.nll_loss(logs, labels, weight, reduction="none")
    return (1 - sure).clamp(min=SMALLEST) ** focal_gamma * loss
