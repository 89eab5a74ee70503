"""Adapters of low rank in networks of timm, transformers and torchvision."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from raysearch.config.hyperparameter_spec import Value
from raysearch.config.hyperparameters import resolve
from raysearch.errors import SpaceError
from raysearch.models.architectures.networks import build_network, build_with_weights
from raysearch.models.transfer.input_normalization import unwrap
from raysearch.models.transfer.lora import adapted_layers, merge_adapters, with_adapters
from raysearch.models.transfer.network_layers import head_name, is_adapter
from support.lora_networks import HIDDEN, NUM_BLOCKS, SNAPSHOTS, WIDTH

SHAPE = (28, 28, 3)
MATRICES = ("lora_A", "lora_B")
# The inputs and outputs of the linear layers of a block.
FUSED = [(WIDTH, 3 * WIDTH), (WIDTH, WIDTH)]
SEPARATE = [(WIDTH, WIDTH)] * 4
PERCEPTRON = [(WIDTH, HIDDEN), (HIDDEN, WIDTH)]


def adapted_network(folder: Path, **hparams: Value) -> nn.Module:
    """Return a network of a snapshot with adapters, which are not zero."""
    params = resolve({"architecture": str(folder), "adaptation": "lora", **hparams})
    torch.manual_seed(0)
    net = build_with_weights(str(folder), SHAPE, 2, {})
    net = with_adapters(net, params, 2).eval()
    for name, parameter in net.named_parameters():
        if is_adapter(name):
            nn.init.normal_(parameter, std=0.3)
    return net


@pytest.mark.parametrize("rank", [2, 5])
@pytest.mark.parametrize("targets", ["attention", "mlp", "all"])
@pytest.mark.parametrize("library", SNAPSHOTS)
def test_only_the_matrices_of_adapters_and_the_head_are_trained(
    tmp_path: Path, library: str, targets: str, rank: int
) -> None:
    net = adapted_network(
        SNAPSHOTS[library](tmp_path / "vit"), lora_rank=rank, lora_targets=targets
    )
    attention = FUSED if library == "timm" else SEPARATE
    layers = {"attention": attention, "mlp": PERCEPTRON, "all": attention + PERCEPTRON}[targets]
    expected = NUM_BLOCKS * sum(rank * (inputs + outputs) for inputs, outputs in layers)
    trained = {name: each for name, each in net.named_parameters() if each.requires_grad}
    adapters = [each.numel() for name, each in trained.items() if is_adapter(name)]
    assert sum(adapters) == expected
    assert sum(each.numel() for each in trained.values()) == expected + 2 * WIDTH + 2
    net(torch.rand(2, *SHAPE[::-1])).sum().backward()
    assert {name for name, each in net.named_parameters() if each.grad is not None} == set(trained)


@pytest.mark.parametrize("targets", ["attention", "mlp", "all"])
@pytest.mark.parametrize("library", SNAPSHOTS)
def test_merged_adapters_give_the_same_logits_under_the_names_of_the_network(
    tmp_path: Path, library: str, targets: str
) -> None:
    folder = SNAPSHOTS[library](tmp_path / "vit")
    net = adapted_network(folder, lora_targets=targets, lora_alpha=3.0)
    batch = torch.rand(4, *SHAPE[::-1])
    with torch.inference_mode():
        unadapted = build_with_weights(str(folder), SHAPE, 2, {}).eval()(batch)
        expected = net(batch)
        merged = merge_adapters(net)(batch)
    assert torch.allclose(merged, expected, atol=1e-5)
    assert not torch.allclose(expected, unadapted, atol=1e-2)
    plain = build_network(str(folder), SHAPE, 2, {"adaptation": "lora"})
    plain.load_state_dict(net.state_dict())
    with torch.inference_mode():
        assert torch.equal(plain.eval()(batch), merged)
    assert not [layer for layer in net.modules() if type(layer).__module__.startswith("peft")]


def test_merged_adapters_of_a_network_of_timm_give_the_same_logits() -> None:
    name = "timm:vit_tiny_patch16_224"
    net = build_network(name, (64, 64, 3), 2, {})
    params = resolve({"architecture": name, "adaptation": "lora", "lora_targets": "all"})
    net = with_adapters(net, params, 2).eval()
    for parameter_name, parameter in net.named_parameters():
        if is_adapter(parameter_name):
            nn.init.normal_(parameter, std=0.02)
    batch = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        expected = net(batch)
        assert torch.allclose(merge_adapters(net)(batch), expected, atol=1e-5)


def test_a_new_adapter_changes_nothing_and_is_scaled_by_alpha_over_rank(tmp_path: Path) -> None:
    folder = SNAPSHOTS["timm"](tmp_path / "vit")
    hparams: dict[str, Value] = {"architecture": str(folder), "adaptation": "lora"}
    for extra, scale in ({}, 2.0), ({"lora_rank": 16}, 2.0), ({"lora_alpha": 2.0}, 0.25):
        net = build_with_weights(str(folder), SHAPE, 2, {}).eval()
        batch = torch.rand(2, *SHAPE[::-1])
        expected = net(batch)
        net = with_adapters(net, resolve({**hparams, **extra}), 2).eval()
        assert torch.equal(net(batch), expected)
        layer = unwrap(net).get_submodule("encoder.blocks.1.attn.qkv")
        weight = layer.weight.clone()  # type: ignore[operator]
        matrix_a, matrix_b = (getattr(layer, name)["default"].weight for name in MATRICES)
        nn.init.normal_(matrix_b)
        merged = unwrap(merge_adapters(net)).get_submodule("encoder.blocks.1.attn.qkv").weight
        assert isinstance(merged, Tensor)
        assert torch.allclose(merged, weight + scale * matrix_b @ matrix_a, atol=1e-5)


def test_the_head_is_found_if_the_rank_is_the_number_of_classes(tmp_path: Path) -> None:
    net = unwrap(adapted_network(SNAPSHOTS["timm"](tmp_path / "vit"), lora_rank=2))
    assert head_name(net, 2) == "head"


def test_networks_without_adapters_are_left_as_they_are() -> None:
    net = build_network("cnn", SHAPE, 2, {})
    assert with_adapters(net, resolve({}), 2) is net
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert merge_adapters(net) is net


@pytest.mark.parametrize(
    ("architecture", "targets", "message"),
    [
        ("cnn", "all", "needs blocks with linear layers, as transformers have, and it has none"),
        ("p4m", "attention", "needs blocks with linear layers"),
        ("vgg16", "mlp", "needs blocks with linear layers"),
        ("resnet18", "all", "needs blocks with linear layers"),
        (
            "convnext_tiny",
            "attention",
            "no linear layers of `lora_targets: attention`",
        ),
        ("vit_b_16", "attention", "torch's MultiheadAttention, which `adaptation: lora` cannot"),
        ("vit_b_16", "all", "choose `lora_targets: mlp`, or a transformer of timm"),
        ("timm:deit_tiny_distilled_patch16_224", "all", "needs one head, and it has two heads"),
    ],
)
def test_networks_that_cannot_be_adapted_are_rejected(
    architecture: str, targets: str, message: str
) -> None:
    hparams: dict[str, Value] = {"adaptation": "lora", "lora_targets": targets}
    params = resolve({"architecture": architecture, **hparams})
    with torch.device("meta"):
        net = build_network(architecture, (224, 224, 3), 2, {})
    with pytest.raises(SpaceError, match=r"^architecture ") as error:
        with_adapters(net, params, 2)
    assert message in str(error.value)
    assert architecture in str(error.value)
    assert not any(is_adapter(name) for name, _parameter in net.named_parameters())


@pytest.mark.parametrize(
    ("architecture", "targets", "num_layers"),
    [
        ("vit_b_16", "mlp", 24),
        ("convnext_tiny", "mlp", 36),
        ("timm:convnext_tiny", "mlp", 36),
        ("timm:swin_tiny_patch4_window7_224", "attention", 24),
        ("timm:swin_tiny_patch4_window7_224", "all", 51),
        ("timm:vit_base_patch16_siglip_224", "attention", 27),
    ],
)
def test_layers_are_found_by_their_place_in_the_network(
    architecture: str, targets: str, num_layers: int
) -> None:
    with torch.device("meta"):
        net = build_network(architecture, (224, 224, 3), 2, {})
    names = adapted_layers(net, 2, targets)
    assert len(set(names)) == len(names) == num_layers
    assert not [name for name in names if name.startswith(("head", "classifier"))]
