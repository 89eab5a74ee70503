"""The sizes that architectures are known to accept, compared with a forward pass."""

import pytest

from raysearch.config.hyperparameter_spec import Hparams
from raysearch.config.names import IMAGE_ARCHITECTURES
from raysearch.errors import SpaceError
from raysearch.models import PatchShape
from raysearch.models.architectures.networks import check_patch_shape
from raysearch.models.patch_limits import MIN_PATCH_SIDE, MIN_SIDES, is_accepted_shape


def is_accepted_by_network(name: str, shape: PatchShape, hparams: Hparams) -> bool:
    try:
        check_patch_shape(name, shape, hparams)
    except SpaceError:
        return False
    return True


@pytest.mark.parametrize("name", IMAGE_ARCHITECTURES)
def test_the_smallest_side_is_the_one_of_the_network(name: str) -> None:
    side = MIN_SIDES[name]
    sides = [(side, side)] if name == "vit_b_16" else [(side, 2 * side + 3), (2 * side + 3, side)]
    for height, width in sides:
        shape = (height, width, 3)
        assert is_accepted_shape(name, shape, {})
        assert is_accepted_by_network(name, shape, {})
    shape = (side - 1, side - 1, 3)
    assert not is_accepted_shape(name, shape, {})
    if side > MIN_PATCH_SIDE:
        assert not is_accepted_by_network(name, shape, {})


@pytest.mark.parametrize("stages", [3, 4])
@pytest.mark.parametrize("pooling", ["max", "strided"])
@pytest.mark.parametrize("head", ["pooled", "flat"])
@pytest.mark.parametrize("kernel_size", [2, 5])
def test_the_stages_of_a_cnn_limit_its_side(
    stages: int, pooling: str, head: str, kernel_size: int
) -> None:
    hparams: Hparams = {
        "stages": stages,
        "pooling": pooling,
        "head": head,
        "kernel_size": kernel_size,
    }
    for side in (8, 9, 15, 16, 17):
        shape = (side, 20, 3)
        expected = is_accepted_by_network("cnn", shape, hparams)
        assert is_accepted_shape("cnn", shape, hparams) == expected


def test_what_is_unknown_is_left_to_the_network() -> None:
    assert not is_accepted_shape("timm:resnet10t.c3_in1k", (96, 96, 3), {})
    assert not is_accepted_shape("resnet18", (96, 96, 3), {"head_hidden_units": 8})
    assert not is_accepted_shape("vit_b_16", (48, 64, 3), {})
    assert not is_accepted_shape("vit_b_16", (50, 50, 3), {})
