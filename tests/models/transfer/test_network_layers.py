import pytest
import torch
from torch import nn

from raysearch.models.architectures.networks import build_network
from raysearch.models.transfer.network_layers import Head, blocks, head_name

SHAPE = (50, 50, 3)


@pytest.mark.parametrize("name", ["cnn", "resnet18", "vgg16", "mobilenet_v3_small"])
def test_the_blocks_and_the_head_have_all_parameters_in_order(name: str) -> None:
    with torch.device("meta"):
        net = build_network(name, SHAPE, 2, {})
    head = head_name(net, 2)
    layers = blocks(net, head)
    parameters = [parameter for _name, layer in layers for parameter in layer.parameters()]
    parameters += list(net.get_submodule(head).parameters())
    assert [id(parameter) for parameter in parameters] == [
        id(parameter) for parameter in net.parameters()
    ]
    assert len(layers) >= 6


def test_a_custom_head_replaces_the_last_layer() -> None:
    hparams = {"head_hidden_units": 7, "head_batch_norm": True, "head_dropout": 0.5}
    net = build_network("resnet18", SHAPE, 3, hparams)
    head = net.get_submodule("fc")
    assert isinstance(head, Head)
    assert [type(layer) for layer in head] == [
        nn.BatchNorm1d,
        nn.Linear,
        nn.ReLU,
        nn.Dropout,
        nn.Linear,
    ]
    assert net(torch.zeros(2, 3, 50, 50)).shape == (2, 3)
    assert head_name(net, 3) == "fc"


def test_a_custom_head_has_several_hidden_layers_of_the_same_width() -> None:
    hparams = {"head_hidden_units": 64, "head_hidden_layers": 2}
    net = build_network("resnet18", SHAPE, 2, hparams)
    layers = [layer for layer in net.get_submodule("fc").children() if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in layers] == [
        (512, 64),
        (64, 64),
        (64, 2),
    ]
    assert net(torch.zeros(2, 3, 50, 50)).shape == (2, 2)


def test_the_layers_of_a_vision_transformers_encoder_are_separate_blocks() -> None:
    with torch.device("meta"):
        net = build_network("vit_b_16", (48, 48, 3), 2, {})
    names = [name for name, _layer in blocks(net, head_name(net, 2))]
    assert sum("encoder_layer" in name for name in names) == 12
