"""What is registered: patches in, probabilities out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

MIDDLE = 0.5


def normalised(patches: Tensor) -> Tensor:
    """uint8 patches (B, H, W, 3) as a float32 batch (B, 3, H, W) from -1 to 1."""
    return patches.permute(0, 3, 1, 2).float().mul(1 / (255 * MIDDLE)).sub(1.0)


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
        prepared = normalised(self.preprocessing(patches))
        return torch.softmax(self.net(prepared).float() / self.temperature, dim=1)
