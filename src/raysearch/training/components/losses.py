"""Loss functions that return one loss per row.

Each maps logits (B, classes), labels (B,) and optional class weights (classes,) to losses (B,).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

# The derivative of a power below 1 is infinite at 0.
MIN_FOCAL_BASE = 1e-6
NUM_BINARY_CLASSES = 2


def cross_entropy(
    logits: Tensor, labels: Tensor, weight: Tensor | None, *, label_smoothing: float
) -> Tensor:
    """Return the cross entropy with label smoothing (Szegedy et al., 2016)."""
    return functional.cross_entropy(
        logits, labels, weight, reduction="none", label_smoothing=label_smoothing
    )


def binary_cross_entropy(logits: Tensor, labels: Tensor, weight: Tensor | None) -> Tensor:
    """Return the binary cross entropy of each class against the rest, as its mean over the classes.

    With more than two classes, the sigmoid of a logit is the probability of its class against the
    rest (Rifkin and Klautau, 2004). With two classes, the sigmoid of the difference of the two
    logits is the probability of class 1, which equals its softmax; the loss then equals
    `cross_entropy` without label smoothing. The weight of a row is that of its label.
    """
    if logits.shape[1] == NUM_BINARY_CLASSES:
        scores = logits[:, 1:] - logits[:, :1]
        targets = labels[:, None].to(scores.dtype)
    else:
        scores = logits
        targets = functional.one_hot(labels, logits.shape[1]).to(scores.dtype)
    losses = functional.binary_cross_entropy_with_logits(scores, targets, reduction="none")
    row_losses = losses.mean(dim=1)
    return row_losses if weight is None else row_losses * weight[labels]


def focal(logits: Tensor, labels: Tensor, weight: Tensor | None, *, focal_gamma: float) -> Tensor:
    """Return the focal loss (Lin et al., 2017): cross entropy times (1 - p) ** `focal_gamma`.

    p is the probability of the label.
    """
    log_probabilities = torch.log_softmax(logits, dim=1)
    probability = log_probabilities.gather(1, labels[:, None]).squeeze(1).exp()
    loss = functional.nll_loss(log_probabilities, labels, weight, reduction="none")
    return (1 - probability).clamp(min=MIN_FOCAL_BASE) ** focal_gamma * loss
