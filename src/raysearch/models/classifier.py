"""What is registered: patches in, probabilities out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

MIDDLE = 0.5


def normalised(pixels: Tensor) -> Tensor:
    """uint8 `pixels` of any shape as float32 from -1 to 1."""
    return pixels.mul(1 / (255 * MIDDLE)).sub(1.0)


class PatchClassifier(nn.Module):
    """A trained net behind the pre-processing it was trained with, and a softmax after it.

    Its logits are divided by `temperature`, which makes the probabilities mean what they say.
    """

    def __init__(self, net: nn.Module, preprocessing: nn.Module, temperature: float = 1.0) -> None:
        super().__init__()
        self.preprocessing = preprocessing
        self.net = net
        self.temperature = temperature

    def forward(self, patches: Tensor) -> Tensor:
        """The probabilities (B, classes), float32, of uint8 patches (B, H, W, 3)."""
        prepared = normalised(self.preprocessing(patches).permute(0, 3, 1, 2))
        return torch.softmax(self.net(prepared).float() / self.temperature, dim=1)


class Ensemble(nn.Module):
    """The mean of what several classifiers say, each behind its own pre-processing."""

    def __init__(self, members: Sequence[PatchClassifier]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, patches: Tensor) -> Tensor:
        """The probabilities (B, classes), float32, of uint8 patches (B, H, W, 3)."""
        return torch.stack([member(patches) for member in self.members]).mean(dim=0)


Classifier = PatchClassifier | Ensemble


def together(members: Sequence[PatchClassifier]) -> Classifier:
    """`members` as one model: their mean, or the only one itself."""
    return members[0] if len(members) == 1 else Ensemble(members).eval()
