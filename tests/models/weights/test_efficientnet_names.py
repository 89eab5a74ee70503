"""Weights of EfficientNet-PyTorch are loaded into timm's networks."""

import re
from pathlib import Path

import pytest
import torch

from raysearch.errors import SpaceError
from raysearch.models.architectures.networks import build_with_weights
from raysearch.models.timm_models import timm_library
from raysearch.models.weights.efficientnet_names import with_timm_names

SHAPE = (64, 64, 3)


def published_names(timm_names: list[str]) -> list[str]:
    """Return the names that EfficientNet-PyTorch has for the entries of a network of timm.

    Both libraries have the entries in the same order. Written apart from the table that is tested.
    """
    blocks: list[str] = []
    names = []
    for name in timm_names:
        match = re.match(r"blocks\.\d+\.\d+\.", name)
        if match is None:
            layer, _, entry = name.partition(".")
            outside = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head"}
            outside |= {"bn2": "_bn1", "classifier": "_fc"}
            names.append(f"{outside[layer]}.{entry}")
            continue
        if match[0] not in blocks:
            blocks.append(match[0])
        is_expanding = f"{match[0]}conv_pwl.weight" in timm_names
        layer, _, entry = name.removeprefix(match[0]).rpartition(".")
        if layer.startswith("se."):
            layer = layer.replace("se.conv", "_se")
        elif layer.startswith("bn"):
            layer = f"_bn{int(layer[2:]) - is_expanding}"
        else:
            kinds = {"conv_dw": "_depthwise_conv", "conv_pwl": "_project_conv"}
            kinds["conv_pw"] = "_expand_conv" if is_expanding else "_project_conv"
            layer = kinds[layer]
        names.append(f"_blocks.{len(blocks) - 1}.{layer}.{entry}")
    return names


@pytest.mark.parametrize(
    "name", ["tf_efficientnet_lite0", "tf_efficientnet_lite1", "efficientnet_b0"]
)
def test_every_entry_has_the_name_of_timm(name: str) -> None:
    with torch.device("meta"):
        state = timm_library().create_model(name).state_dict()
    stored = dict(zip(published_names(list(state)), state.values(), strict=True))
    renamed = with_timm_names(stored, state)
    assert list(renamed) == list(state)
    assert all(renamed[entry] is value for entry, value in state.items())
    assert with_timm_names(state, state) is state


def test_a_file_of_efficientnet_pytorch_is_loaded(tmp_path: Path) -> None:
    torch.manual_seed(0)
    pretrained = timm_library().create_model("tf_efficientnet_lite0")
    state = pretrained.state_dict()
    path = tmp_path / "efficientnet-lite0.pth"
    torch.save(dict(zip(published_names(list(state)), state.values(), strict=True)), path)
    net = build_with_weights("timm:tf_efficientnet_lite0", SHAPE, 2, {"weights": str(path)})
    loaded = net.state_dict()
    body = [name for name in state if not name.startswith("classifier")]
    assert all(torch.equal(loaded[name], state[name]) for name in body)
    with pytest.raises(SpaceError, match="not those of timm:tf_efficientnet_lite1"):
        build_with_weights("timm:tf_efficientnet_lite1", SHAPE, 2, {"weights": str(path)})
