import pytest
import torch
from torch import nn

from raysearch.config.hyperparameter_spec import Hparams
from raysearch.errors import SpaceError
from raysearch.models.architectures.networks import build_extractor, build_network
from raysearch.models.classifier import PatchClassifier
from raysearch.models.grad_cam import grad_cam
from raysearch.models.transfer.feature_network import FeatureExtractor, FeatureNetwork

SHAPE = (48, 48, 3)


@pytest.mark.parametrize(
    ("name", "last", "multi"),
    [
        ("resnet18", 512, 64 + 128 + 256 + 512),
        ("mobilenet_v2", 1280, 1280 + 32 + 64 + 160),
        ("vit_b_16", 768, 4 * 768),
        ("timm:swin_tiny_patch4_window7_224", 768, 768 + 96 + 192 + 384 + 576),
        ("lunit-s16", 384, 4 * 384),
    ],
)
def test_features_are_those_before_the_head_or_also_of_three_depths(
    name: str, last: int, multi: int
) -> None:
    widths = []
    for features in ("last", "multi"):
        hparams: Hparams = {"weights": "none", "input_size": 224, "features": features}
        with torch.device("meta"):
            extractor = build_extractor(name, SHAPE, 2, hparams)
            widths.append(extractor(torch.empty(1, 3, 48, 48)).shape[1])
    if "swin" in name:  # its blocks are stages
        assert widths[0] == last
        assert widths[1] > last
    else:
        assert widths == [last, multi]


def test_features_of_a_depth_are_the_means_of_its_feature_maps() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(*(nn.Conv2d(3, 3, 3) for _ in range(4)), nn.Flatten(), nn.Linear(75, 2))
    batch, layers = torch.randn(2, 3, 13, 13), list(net)
    extractor = FeatureExtractor(net, 2, is_multi_depth=True)
    outputs: list[torch.Tensor] = []
    for layer in layers[:-1]:
        batch_out = layer(outputs[-1] if outputs else batch)
        outputs.append(batch_out)
    pooled = [outputs[number].mean(dim=(2, 3)) for number in (1, 2, 3)]
    assert torch.allclose(extractor(batch), torch.cat([*pooled, outputs[-1]], dim=1))


def test_a_network_without_a_linear_layer_at_its_end_has_no_features() -> None:
    with pytest.raises(SpaceError, match="has no features; choose `adaptation: full`"):
        FeatureExtractor(nn.Conv2d(3, 2, 3), 2, is_multi_depth=False)


@pytest.mark.parametrize("features", ["last", "multi"])
@pytest.mark.parametrize("name", ["resnet18", "lunit-s16"])
def test_a_network_with_frozen_features_has_a_heatmap(name: str, features: str) -> None:
    torch.manual_seed(0)
    hparams: Hparams = {
        "weights": "none",
        "adaptation": "frozen",
        "features": features,
        "input_size": 96,
    }
    net = build_network(name, SHAPE, 2, hparams)
    assert isinstance(net, FeatureNetwork)
    classifier = PatchClassifier(net, nn.Identity()).eval()
    pixels = torch.randint(0, 256, (2, *SHAPE), dtype=torch.uint8)
    heatmaps = grad_cam(classifier, pixels, torch.tensor([1, 0]))
    assert heatmaps.shape == (2, 48, 48)
    assert float(heatmaps.amax()) == pytest.approx(1.0)
