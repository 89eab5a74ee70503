import subprocess
import sys

import pytest
import torch

from raysearch.config.hyperparameter_spec import Value
from raysearch.config.names import IMAGE_ARCHITECTURES
from raysearch.errors import SpaceError
from raysearch.models.architectures import ARCHITECTURES
from raysearch.models.architectures.networks import build_network, check_patch_shape

SHAPE = (50, 50, 3)
NETWORKS = (
    *IMAGE_ARCHITECTURES,
    "timm:resnetv2_50",
    "timm:vit_tiny_patch16_224",
    "timm:inception_v4",
)
SMALL_NETWORKS = ("benchmark", "cnn", "p4m", "mobilenet_v3_small", "resnet18", "googlenet")
# Architectures and sides of patches that they reject, with a part of the message.
REJECTED = {
    ("inception_v3", 50): r"needs 75 or more",
    ("vit_b_16", 50): r"it cuts them in squares of 16",
    ("timm:inception_v4", 50): r"cannot take patches of 50x50 \(it needs 75x75 or more\); ",
}


@pytest.mark.parametrize("side", [50, 96, 224])
@pytest.mark.parametrize("name", NETWORKS)
def test_each_architecture_is_trained_on_patches_of_a_size_or_rejects_it(
    name: str, side: int
) -> None:
    shape = (side, side, 3)
    if (name, side) in REJECTED:
        with pytest.raises(SpaceError, match=REJECTED[name, side]) as caught:
            check_patch_shape(name, shape, {})
        assert "\n" not in str(caught.value)
        return
    check_patch_shape(name, shape, {})
    # Small networks are computed; of the others only the shapes. Batch normalization has 2 patches.
    device = torch.device("cpu" if name in SMALL_NETWORKS and side < 224 else "meta")
    with device:
        model = build_network(name, shape, 3, {}).train()
        logits = model(torch.zeros(2, 3, side, side))
        assert logits.shape == (2, 3)
        loss = torch.nn.functional.cross_entropy(logits, torch.zeros(2, dtype=torch.int64))
        loss.backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "min_side"), [("timm:inception_v4", 75), ("vgg16", 32), ("googlenet", 15)]
)
def test_the_size_in_the_message_is_the_smallest_that_a_network_accepts(
    name: str, min_side: int
) -> None:
    check_patch_shape(name, (min_side, min_side, 3), {})
    with pytest.raises(SpaceError, match=f"it needs {min_side}x{min_side} or more"):
        check_patch_shape(name, (min_side - 1, 2 * min_side, 3), {})


def test_the_message_of_a_network_of_some_sizes_has_one_of_them() -> None:
    with pytest.raises(SpaceError, match=r"of 96x96 \(193x193 would do\); choose another"):
        check_patch_shape("timm:efficientformer_l1", (96, 96, 3), {})
    check_patch_shape("timm:efficientformer_l1", (193, 193, 3), {})


@pytest.mark.parametrize("name", ["vgg16", "vgg19"])
def test_patches_that_are_too_small_for_an_architecture_are_rejected(name: str) -> None:
    with pytest.raises(SpaceError, match=f"{name} cannot take patches of 24x24 .*`input_size` 32"):
        check_patch_shape(name, (24, 24, 3), {})


def test_patches_below_the_minimum_side_are_rejected() -> None:
    with pytest.raises(SpaceError, match="7x7 are too small"):
        build_network("cnn", (7, 7, 3), 2, {})


@pytest.mark.parametrize("name", IMAGE_ARCHITECTURES)
def test_each_network_supports_channels_last(name: str) -> None:
    with torch.device("meta"):
        net = build_network(name, (96, 96, 3), 2, {}).to(memory_format=torch.channels_last)
    filters = [parameter for parameter in net.parameters() if parameter.dim() == 4]
    assert filters
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in filters)


def test_an_unknown_architecture_is_rejected_with_the_names_of_all() -> None:
    with pytest.raises(SpaceError, match="'alexnet' is unknown"):
        build_network("alexnet", SHAPE, 2, {})
    with pytest.raises(SpaceError, match="'alexnet' is unknown; choose one of benchmark, cnn"):
        ARCHITECTURES["alexnet"]


@pytest.mark.parametrize(
    ("hparams", "message"),
    [
        ({"convolutions": 0}, "convolutions"),
        ({"hidden_units": 0}, "hidden_units"),
        ({"hidden_layers": 0}, "hidden_layers"),
        ({"width": 0}, "width"),
        ({"head": "round"}, "head"),
    ],
)
def test_a_value_outside_its_range_is_rejected_in_one_line(
    hparams: dict[str, Value], message: str
) -> None:
    with pytest.raises(SpaceError, match=message) as caught:
        build_network("cnn", SHAPE, 2, hparams)
    assert "\n" not in str(caught.value)


def test_the_hyperparameters_of_another_architecture_are_ignored() -> None:
    net = build_network("resnet18", SHAPE, 2, {"width": 8, "kernel_size": 5})
    reference = build_network("resnet18", SHAPE, 2, {})
    assert net.state_dict().keys() == reference.state_dict().keys()


def test_a_worker_with_a_small_network_does_not_import_torchvision() -> None:
    """Its import takes as long as that of torch, since it imports torch's compiler."""
    code = """
import sys
import raysearch.search.engine.worker_tasks
from raysearch.models.architectures.networks import build_network
build_network("cnn", (50, 50, 3), 2, {"architecture": "cnn", "width": 4, "convolutions": 1})
print(*sys.modules)
"""
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    modules = process.stdout.split()
    assert "torch" in modules
    assert {"torchvision", "torch._dynamo", "torch._inductor"}.isdisjoint(modules)
