from torchvision.models import VisionTransformer

from raysearch.training.layer_groups import LayerGroups


def test_the_parameters_before_the_first_block_are_frozen_with_it() -> None:
    net = VisionTransformer(32, 16, 2, 2, 8, 8, num_classes=2)
    layers = LayerGroups(net, 2, frozen_blocks=1, layer_decay=1.0, head_weight_decay=None)
    layers.freeze(head_only=False)
    assert not net.class_token.requires_grad
    assert not net.conv_proj.weight.requires_grad
    assert net.heads.head.weight.requires_grad
    assert net.encoder.layers[1].mlp[0].weight.requires_grad
