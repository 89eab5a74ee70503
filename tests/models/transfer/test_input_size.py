"""The input size of networks: resizing on the device, its default, and its errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from raysearch.config.hyperparameter_spec import Value
from raysearch.errors import SpaceError
from raysearch.models.architectures.networks import (
    build_network,
    build_with_weights,
    check_patch_shape,
)
from raysearch.models.patch_limits import is_accepted_shape
from raysearch.models.timm_models import timm_library
from raysearch.models.transfer.input_normalization import unwrap
from raysearch.models.transfer.input_size import ResizedInput, resized

SHAPE = (50, 50, 3)
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def patches(height: int, width: int, count: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand((count, 3, height, width), generator=generator) * 2 - 1


@pytest.mark.parametrize("resize", FILTERS)
@pytest.mark.parametrize("size", [24, 96])
def test_interpolation_equals_that_of_pillow(resize: str, size: int) -> None:
    batch = patches(50, 40, count=1)
    image = Image.fromarray(batch[0, 0].numpy(), mode="F")
    expected = np.asarray(image.resize((size, size), FILTERS[resize])).clip(-1, 1)
    enlarged = resized(batch, size, resize)[0, 0].numpy()
    if size < 50:
        assert np.abs(enlarged - expected).max() < 1e-5
    else:
        # Pillow's bicubic kernel has another parameter than PyTorch's without antialiasing.
        assert np.abs(enlarged - expected).mean() < 0.05


def test_padding_repeats_the_border_around_the_unchanged_patch() -> None:
    batch = patches(50, 40)
    padded = resized(batch, 56, "pad")
    assert padded.shape == (2, 3, 56, 56)
    assert torch.equal(padded[:, :, 3:53, 8:48], batch)
    assert torch.equal(padded[:, :, 0, 8:48], batch[:, :, 0])


@pytest.mark.parametrize("resize", ["bilinear", "bicubic", "pad"])
def test_a_network_with_an_input_size_equals_one_for_patches_of_that_size(resize: str) -> None:
    torch.manual_seed(0)
    hparams: dict[str, Value] = {
        "input_size": 64,
        "resize": resize,
        "normalization": "imagenet",
    }
    net = build_network("cnn", SHAPE, 2, hparams).eval()
    plain = build_network("cnn", (64, 64, 3), 2, {"normalization": "imagenet"}).eval()
    unwrap(plain).load_state_dict(unwrap(net).state_dict())
    batch = patches(50, 50)
    assert torch.allclose(net(batch), plain(resized(batch, 64, resize)))
    assert net(batch.bfloat16().float()).dtype == torch.float32


def test_patches_of_the_input_size_are_not_resized() -> None:
    names = [
        type(build_network("cnn", SHAPE, 2, {"input_size": size})) is ResizedInput
        for size in (0, 50, 51)
    ]
    assert names == [False, False, True]


def test_an_input_size_makes_an_architecture_accept_small_patches() -> None:
    for name, side in (("vit_b_16", 48), ("inception_v3", 75), ("vgg16", 32)):
        shape = (24, 24, 3)
        assert not is_accepted_shape(name, shape, {})
        assert is_accepted_shape(name, shape, {"input_size": side})
        check_patch_shape(name, shape, {"input_size": side})
        with pytest.raises(SpaceError, match="input_size"):
            check_patch_shape(name, shape, {})


def test_weights_of_another_input_size_get_its_position_embeddings(tmp_path: Path) -> None:
    torch.manual_seed(0)
    pretrained = timm_library().create_model("test_vit", img_size=64)
    torch.save(pretrained.state_dict(), tmp_path / "vit.bin")
    hparams: dict[str, Value] = {"input_size": 96, "weights": str(tmp_path / "vit.bin")}
    net = unwrap(build_with_weights("timm:test_vit", SHAPE, 2, hparams))
    assert net.get_parameter("pos_embed").shape == (1, 37, 64)
    name = "blocks.0.attn.qkv.weight"
    assert torch.equal(net.get_parameter(name), pretrained.get_parameter(name))


@pytest.mark.parametrize(
    ("hparams", "message"),
    [
        ({"input_size": 40, "resize": "pad"}, "patches of 50x50 cannot be padded to it"),
        ({"input_size": 4}, "patches of 4x4 are too small for cnn; choose `input_size` 8 or more"),
    ],
)
def test_an_impossible_input_size_is_rejected(hparams: dict[str, int | str], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        check_patch_shape("cnn", SHAPE, hparams)
    assert not is_accepted_shape("cnn", SHAPE, hparams)
