import pytest
import torch

from raysearch.config.hyperparameter_spec import Value
from raysearch.errors import SpaceError
from raysearch.models.architectures.networks import build_network, check_patch_shape

SHAPE = (50, 50, 3)


def num_parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def linear_layers(model: torch.nn.Module) -> list[torch.nn.Linear]:
    return [layer for layer in model.modules() if isinstance(layer, torch.nn.Linear)]


def convolutions(model: torch.nn.Module) -> list[torch.nn.Conv2d]:
    return [layer for layer in model.modules() if isinstance(layer, torch.nn.Conv2d)]


@pytest.mark.parametrize("side", [50, 53])
@pytest.mark.parametrize("pooling", ["max", "average", "strided"])
@pytest.mark.parametrize("kernel_size", [1, 2, 4, 7])
def test_a_convolution_of_any_kernel_size_keeps_the_side(
    side: int, pooling: str, kernel_size: int
) -> None:
    hparams: dict[str, Value] = {
        "stages": 2,
        "width": 2,
        "kernel_size": kernel_size,
        "pooling": pooling,
        "head": "flat",
        "hidden_units": 3,
    }
    net = build_network("cnn", (side, side, 3), 2, hparams)
    assert net(torch.rand(2, 3, side, side)).shape == (2, 2)
    quarter = -(-side // 4) if pooling == "strided" else side // 4
    assert linear_layers(net)[0].in_features == 4 * quarter**2


def test_a_cnn_has_its_hidden_layers_and_dropouts() -> None:
    hparams: dict[str, Value] = {
        "head": "flat",
        "hidden_units": 7,
        "hidden_layers": 3,
        "dropout": 0.5,
        "stage_dropout": 0.25,
        "stages": 4,
        "width": 2,
    }
    net = build_network("cnn", SHAPE, 2, hparams)
    assert [layer.out_features for layer in linear_layers(net)] == [7, 7, 7, 2]
    dropouts = [layer.p for layer in net.modules() if isinstance(layer, torch.nn.Dropout)]
    assert dropouts == [0.25] * 4 + [0.5] * 3


@pytest.mark.parametrize("pooling", ["max", "average", "strided"])
@pytest.mark.parametrize("stages", [1, 2, 4])
@pytest.mark.parametrize("head", ["pooled", "flat"])
def test_a_cnn_has_its_stages_and_kernels(pooling: str, stages: int, head: str) -> None:
    hparams: dict[str, Value] = {
        "stages": stages,
        "kernel_size": 5,
        "pooling": pooling,
        "head": head,
        "width": 4,
        "convolutions": 1,
        "hidden_units": 8,
    }
    model = build_network("cnn", SHAPE, 3, hparams).train()
    kernels = [layer.kernel_size for layer in convolutions(model)]
    assert kernels == [(5, 5)] * (stages * (2 if pooling == "strided" else 1))
    assert model(torch.zeros(2, 3, 50, 50)).shape == (2, 3)
    with pytest.raises(SpaceError, match="stages 6 is too many for patches of 50x50"):
        check_patch_shape("cnn", SHAPE, {"stages": 6})


def test_the_nine_convolution_network_is_a_configuration_of_the_cnn() -> None:
    model = build_network("cnn", SHAPE, 2, {"convolutions": 3, "width": 32, "head": "flat"})
    widths = [layer.out_channels for layer in convolutions(model)]
    assert widths == [32] * 3 + [64] * 3 + [128] * 3
    sizes = [(layer.in_features, layer.out_features) for layer in linear_layers(model)]
    assert sizes == [(128 * 36, 256), (256, 2)]
    assert num_parameters(model) == 1_661_858
    assert num_parameters(build_network("benchmark", SHAPE, 2, {})) == 148_354


def test_a_flat_head_has_its_hidden_units() -> None:
    torch.manual_seed(0)
    default = build_network("cnn", SHAPE, 2, {"head": "flat"})
    torch.manual_seed(0)
    model = build_network("cnn", SHAPE, 2, {"head": "flat", "hidden_units": 256})
    for expected, parameter in zip(default.parameters(), model.parameters(), strict=True):
        assert torch.equal(expected, parameter)
    narrow = build_network("cnn", SHAPE, 2, {"head": "flat", "hidden_units": 16})
    assert [layer.out_features for layer in linear_layers(narrow)] == [16, 2]


def test_a_pooled_head_has_no_hidden_units() -> None:
    with_hidden_units = build_network("cnn", SHAPE, 2, {"hidden_units": 16})
    default = build_network("cnn", SHAPE, 2, {})
    assert num_parameters(with_hidden_units) == num_parameters(default)
