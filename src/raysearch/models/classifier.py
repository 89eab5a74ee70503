"""The model that is registered: patches or slides in, calibrated class probabilities out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

HALF_RANGE = 0.5


def normalize_pixels(pixels: Tensor) -> Tensor:
    """Scale uint8 `pixels` of any shape to float32 in [-1, 1]."""
    return pixels.mul(1 / (255 * HALF_RANGE)).sub(1.0)


class PatchClassifier(nn.Module):
    """A trained network between its preprocessing and a calibrated softmax.

    Args:
        net: Maps a normalized batch (B, 3, H, W) to logits (B, classes).
        preprocessing: The fitted preprocessing that the network was trained with.
        temperature: Divides the logits (temperature scaling, Guo et al., 2017).
    """

    def __init__(self, net: nn.Module, preprocessing: nn.Module, temperature: float = 1.0) -> None:
        super().__init__()
        self.preprocessing = preprocessing
        self.net = net
        self.temperature = temperature

    def forward(self, patches: Tensor) -> Tensor:
        """Return float32 probabilities (B, classes) of uint8 `patches` (B, H, W, 3)."""
        batch = normalize_pixels(self.preprocessing(patches).permute(0, 3, 1, 2))
        return torch.softmax(self.net(batch).float() / self.temperature, dim=1)


class BagClassifier(nn.Module):
    """A trained network of bags before a calibrated softmax.

    Args:
        net: Maps a batch (B, 1, n, D) to logits (B, classes).
        temperature: Divides the logits (temperature scaling, Guo et al., 2017).
    """

    def __init__(self, net: nn.Module, temperature: float = 1.0) -> None:
        super().__init__()
        self.net = net
        self.temperature = temperature

    def forward(self, features: Tensor) -> Tensor:
        """Return float32 probabilities (B, classes) of slides (B, n, D), padded with NaN."""
        logits = self.net(features.unsqueeze(1))
        return torch.softmax(logits.float() / self.temperature, dim=1)


Member = PatchClassifier | BagClassifier


class Ensemble(nn.Module):
    """The mean of the probabilities of several classifiers."""

    def __init__(self, members: Sequence[Member]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, patches: Tensor) -> Tensor:
        """Return float32 probabilities (B, classes) of what the members take."""
        return torch.stack([member(patches) for member in self.members]).mean(dim=0)


Classifier = Member | Ensemble


def build_ensemble(members: Sequence[Member]) -> Classifier:
    """Return `members` as one model: their `Ensemble`, or the only member itself."""
    return members[0] if len(members) == 1 else Ensemble(members).eval()
