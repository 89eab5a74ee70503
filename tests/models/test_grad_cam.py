from dataclasses import replace

import pytest
import torch
from torch import nn

from raysearch.models.architectures.networks import build_network
from raysearch.models.classifier import PatchClassifier
from raysearch.models.dihedral import DihedralMean
from raysearch.models.encoders.encoder_table import ENCODERS
from raysearch.models.grad_cam import grad_cam, peak_region
from raysearch.models.transfer.input_normalization import unwrap

NETWORKS = (
    *("benchmark", "cnn", "p4m", "resnet18", "densenet121", "mobilenet_v3_small"),
    *("efficientnet_b0", "convnext_tiny", "googlenet", "vit_b_16"),
)


@pytest.mark.parametrize("name", NETWORKS)
def test_each_kind_of_network_has_a_heatmap(name: str) -> None:
    torch.manual_seed(0)
    net = build_network(name, (64, 64, 3), 2, {})
    for layer in net.modules():
        if isinstance(layer, nn.Linear) and layer.out_features == 2:
            nn.init.normal_(layer.weight)  # the initial head of a transformer is zero
    model = PatchClassifier(net, nn.Identity()).eval()
    patches = torch.randint(0, 256, (6, 64, 64, 3), dtype=torch.uint8)
    heatmaps = [grad_cam(model, patches, torch.full((6,), label)) for label in (0, 1)]
    for of_class in heatmaps:
        assert of_class.shape == (6, 64, 64)
        assert float(of_class.min()) >= 0
        assert set(of_class.amax(dim=(1, 2)).round(decimals=5).tolist()) <= {0.0, 1.0}
    # What contributes to one class reduces the other.
    assert float(torch.maximum(*heatmaps).amax(dim=(1, 2)).max()) == pytest.approx(1)
    assert all(parameter.grad is None for parameter in model.parameters())


class BrightnessNet(nn.Module):
    """A network whose logit of class 1 is the mean brightness."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 1, 1, bias=False)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(1, 2, bias=False)
        with torch.no_grad():
            self.features.weight.fill_(1.0)
            self.head.weight.copy_(torch.tensor([[-1.0], [1.0]]))

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        logits: torch.Tensor = self.head(self.pool(self.features(batch)).flatten(1))
        return logits


@pytest.mark.parametrize("use_tta", [False, True])
def test_the_peak_region_is_the_bright_square(use_tta: bool) -> None:
    net = BrightnessNet()
    model = PatchClassifier(DihedralMean(net) if use_tta else net, nn.Identity()).eval()
    patch = torch.zeros(1, 20, 20, 3, dtype=torch.uint8)
    patch[0, 4:9, 11:18] = 255
    heatmap = grad_cam(model, patch, torch.tensor([1]))[0]
    assert peak_region(heatmap) == (11, 4, 17, 8)
    dark_heatmap = grad_cam(model, patch, torch.tensor([0]))[0]
    assert peak_region(1 - dark_heatmap) == (11, 4, 17, 8)


def test_the_peak_region_of_a_map_without_low_values_has_one_peak() -> None:
    heatmap = torch.full((20, 20), 0.6)
    heatmap[4:9, 11:18] = 1.0
    heatmap[15:18, 2:5] = 0.9  # not connected with the maximum
    assert peak_region(heatmap) == (11, 4, 17, 8)
    assert peak_region(torch.full((20, 20), 0.6)) == (0, 0, 19, 19)


def test_a_class_without_contributions_has_no_peak_region() -> None:
    model = PatchClassifier(BrightnessNet(), nn.Identity()).eval()
    black_patch = torch.zeros(1, 20, 20, 3, dtype=torch.uint8)
    heatmaps = grad_cam(model, black_patch, torch.tensor([1]))
    assert float(heatmaps.max()) == 0
    assert peak_region(heatmaps[0]) is None


@pytest.mark.parametrize("num_registers", [0, 4])
def test_the_heatmap_of_an_encoder_is_that_of_the_tokens_of_its_patches(num_registers: int) -> None:
    torch.manual_seed(0)
    arguments = {"depth": 2, "embed_dim": 32, "num_heads": 2, "reg_tokens": num_registers}
    encoder = replace(ENCODERS["lunit-s16"], arguments=arguments, pooling="mean", input_size=96)
    net = build_network("lunit-s16", (96, 96, 3), 2, {}, encoder)
    # Only one patch of the grid differs from the others, and only its token is large.
    pixels = torch.zeros(1, 96, 96, 3, dtype=torch.uint8)
    pixels[:, 32:48, 64:80] = 255
    model = PatchClassifier(net, nn.Identity()).eval()
    outputs = []
    hook = unwrap(net).encoder.norm.register_forward_hook(  # type: ignore[union-attr]
        lambda _layer, _inputs, output: outputs.append(output.detach())
    )
    heatmap = grad_cam(model, pixels, torch.tensor([1]))
    hook.remove()
    assert heatmap.shape == (1, 96, 96)
    (tokens,) = outputs
    weights = unwrap(net).head.weight[1]  # type: ignore[union-attr,index]
    # The gradient of each token is the weight of the head, divided by the number of patches.
    expected = torch.relu((tokens[0, 1 + num_registers :] * weights).sum(dim=1)).reshape(6, 6)
    assert expected.max() > 0
    coarse = torch.nn.functional.interpolate(expected[None, None], (96, 96), mode="bilinear")[0]
    assert torch.allclose(heatmap, coarse.detach() / coarse.max(), atol=1e-4)
