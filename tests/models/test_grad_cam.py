"""Where a net saw what it decided on."""

import pytest
import torch
from torch import nn

from raysearch.models.architectures import build
from raysearch.models.classifier import PatchClassifier
from raysearch.models.dihedral import DihedralMean
from raysearch.models.grad_cam import activation, deciding_region

NETS = (
    *("benchmark", "cnn", "p4m", "resnet18", "densenet121", "mobilenet_v3_small"),
    *("efficientnet_b0", "convnext_tiny", "googlenet", "vit_b_16"),
)


@pytest.mark.parametrize("name", NETS)
def test_every_kind_of_net_says_where(name: str) -> None:
    torch.manual_seed(0)
    net = build(name, (64, 64, 3), 2, {})
    for layer in net.modules():
        if isinstance(layer, nn.Linear) and layer.out_features == 2:
            nn.init.normal_(layer.weight)  # a transformer's begins with zeros
    model = PatchClassifier(net, nn.Identity()).eval()
    patches = torch.randint(0, 256, (6, 64, 64, 3), dtype=torch.uint8)
    found = [activation(model, patches, torch.full((6,), one)) for one in (0, 1)]
    for one in found:
        assert one.shape == (6, 64, 64)
        assert float(one.min()) >= 0
        assert set(one.amax(dim=(1, 2)).round(decimals=5).tolist()) <= {0.0, 1.0}
    # What speaks for one class speaks against the other.
    assert float(torch.maximum(*found).amax(dim=(1, 2)).max()) == pytest.approx(1)
    assert all(one.grad is None for one in model.parameters())


class Brightest(nn.Module):
    """Class 1 where a place is bright."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 1, 1, bias=False)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(1, 2, bias=False)
        with torch.no_grad():
            self.features.weight.fill_(1.0)
            self.head.weight.copy_(torch.tensor([[-1.0], [1.0]]))

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """The logits."""
        logits: torch.Tensor = self.head(self.pool(self.features(batch)).flatten(1))
        return logits


@pytest.mark.parametrize("averaged", [False, True])
def test_the_frame_is_around_what_decided(averaged: bool) -> None:
    net = Brightest()
    model = PatchClassifier(DihedralMean(net) if averaged else net, nn.Identity()).eval()
    patch = torch.zeros(1, 20, 20, 3, dtype=torch.uint8)
    patch[0, 4:9, 11:18] = 255
    found = activation(model, patch, torch.tensor([1]))
    assert deciding_region(found[0]) == (11, 4, 17, 8)
    against = activation(model, patch, torch.tensor([0]))
    assert deciding_region(1 - against[0]) == (11, 4, 17, 8)


def test_the_frame_is_around_one_peak_of_a_map_that_is_high_all_over() -> None:
    found = torch.full((20, 20), 0.6)
    found[4:9, 11:18] = 1.0
    found[15:18, 2:5] = 0.9  # apart from it
    assert deciding_region(found) == (11, 4, 17, 8)
    assert deciding_region(torch.full((20, 20), 0.6)) == (0, 0, 19, 19)


def test_where_nothing_speaks_for_a_class_nothing_is_framed() -> None:
    model = PatchClassifier(Brightest(), nn.Identity()).eval()
    black = torch.zeros(1, 20, 20, 3, dtype=torch.uint8)
    found = activation(model, black, torch.tensor([1]))
    assert float(found.max()) == 0
    assert deciding_region(found[0]) is None
