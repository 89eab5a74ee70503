import pytest
import torch
from torch import nn
from torchvision.models import VisionTransformer

from raysearch.models.architectures.networks import build_network
from raysearch.training.layer_groups import LayerGroups


def test_the_parameters_before_the_first_block_are_frozen_with_it() -> None:
    net = VisionTransformer(32, 16, 2, 2, 8, 8, num_classes=2)
    layers = LayerGroups(
        net, 2, frozen_blocks=1, layer_decay=1.0, head_weight_decay=None, trained_blocks=None
    )
    layers.freeze(head_only=False)
    assert not net.class_token.requires_grad
    assert not net.conv_proj.weight.requires_grad
    assert net.heads.head.weight.requires_grad
    assert net.encoder.layers[1].mlp[0].weight.requires_grad


@pytest.mark.parametrize(("trained_blocks", "num_frozen"), [(0, 3), (1, 2), (3, 0), (9, 0)])
def test_the_last_blocks_are_trained_with_the_head(trained_blocks: int, num_frozen: int) -> None:
    net = nn.Sequential(*(nn.Linear(4, 4) for _ in range(3)), nn.Linear(4, 2))
    layers = LayerGroups(
        net,
        2,
        frozen_blocks=0,
        layer_decay=1.0,
        head_weight_decay=None,
        trained_blocks=trained_blocks,
    )
    layers.freeze(head_only=False)
    is_trained = [layer.weight.requires_grad for layer in (net[0], net[1], net[2], net[3])]
    assert is_trained == [False] * num_frozen + [True] * (4 - num_frozen)


def test_a_head_inside_the_last_block_has_its_own_group_and_is_always_trained() -> None:
    with torch.device("meta"):
        net = build_network("timm:convnext_tiny", (32, 32, 3), 2, {})
    layers = LayerGroups(
        net, 2, frozen_blocks=0, layer_decay=0.5, head_weight_decay=0.1, trained_blocks=0
    )
    *_others, head_group = groups = layers.parameter_groups()
    assert [tuple(each.shape) for each in head_group["params"]] == [(2, 768), (2,)]
    torch.optim.SGD(groups, lr=0.1)  # rejects a parameter of two groups
    layers.freeze(head_only=False)
    trained = {name for name, each in net.named_parameters() if each.requires_grad}
    assert trained == {"head.fc.weight", "head.fc.bias"}
    layers.train(head_only=True)
    assert net.get_submodule("head.fc").training
    assert not net.get_submodule("head.norm").training
