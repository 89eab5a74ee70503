"""Networks of bags: padding and the order of patches change nothing, and attention sums to 1."""

import pytest
import torch
from torch import Tensor, nn

from raysearch.champion.register import example_batch
from raysearch.config.names import BAG_ARCHITECTURES
from raysearch.errors import SpaceError
from raysearch.models.architectures.bag_networks import BagNetwork, GatedAttention
from raysearch.models.architectures.networks import build_network
from raysearch.models.classifier import BagClassifier

WIDTH, SHAPE = 12, (40, 12, 1)


def network(name: str, **hparams: int) -> nn.Module:
    torch.manual_seed(0)
    return build_network(name, SHAPE, 3, {"embedding_units": 8, "dropout": 0.5, **hparams}).eval()


def padded(*bags: Tensor) -> Tensor:
    batch = torch.full((len(bags), 1, max(map(len, bags)), WIDTH), torch.nan)
    for number, bag in enumerate(bags):
        batch[number, 0, : len(bag)] = bag
    return batch


@pytest.mark.parametrize("name", [*BAG_ARCHITECTURES, "benchmark"])
def test_padding_and_the_order_of_the_patches_change_nothing(name: str) -> None:
    net = network(name) if name != "benchmark" else build_network(name, SHAPE, 3, {}).eval()
    generator = torch.Generator().manual_seed(1)
    short, long = (torch.randn(count, WIDTH, generator=generator) for count in (5, 33))
    with torch.inference_mode():
        together = net(padded(short, long))
        alone = torch.cat([net(padded(short)), net(padded(long))])
        shuffled = net(padded(long[torch.randperm(33, generator=generator)]))
    assert together.shape == (2, 3)
    assert torch.allclose(together, alone, atol=1e-5)
    assert torch.allclose(shuffled, alone[1:], atol=1e-5)
    assert not torch.allclose(alone[0], alone[1], atol=1e-3)


@pytest.mark.parametrize("name", BAG_ARCHITECTURES)
def test_the_attention_to_the_patches_of_a_slide_sums_to_one(name: str) -> None:
    net = network(name)
    assert isinstance(net, BagNetwork)
    with torch.inference_mode():
        attention = net.attention(padded(torch.randn(4, WIDTH), torch.randn(9, WIDTH)))
    assert attention.shape == (2, 9)
    assert torch.allclose(attention.sum(dim=1), torch.ones(2), atol=1e-5)
    assert (attention[0, 4:] == 0).all()
    assert (attention >= 0).all()


def test_gated_attention_is_equation_9_of_its_paper() -> None:
    torch.manual_seed(2)
    pooling = GatedAttention(6, 4)
    patches = torch.randn(1, 5, 6)
    pooled, attention = pooling.pooled(patches, torch.ones(1, 5, dtype=torch.bool))
    scores = torch.stack(
        [
            pooling.score.weight[0]
            @ (
                torch.tanh(pooling.content.weight @ patch + pooling.content.bias)
                * torch.sigmoid(pooling.gate.weight @ patch + pooling.gate.bias)
            )
            for patch in patches[0]
        ]
    )
    expected = scores.exp() / scores.exp().sum()
    assert torch.allclose(attention[0], expected, atol=1e-6)
    assert torch.allclose(pooled[0], expected @ patches[0], atol=1e-6)


def test_heads_that_do_not_divide_the_units_are_rejected() -> None:
    with pytest.raises(SpaceError, match="attention_heads 3 does not divide embedding_units 8"):
        network("transformer_mil", attention_heads=3)


@pytest.mark.parametrize("name", BAG_ARCHITECTURES)
def test_an_exported_network_takes_any_number_of_slides_and_patches(name: str) -> None:
    model = BagClassifier(network(name)).eval()
    example = torch.from_numpy(example_batch(SHAPE))
    axes = {0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO}
    exported = torch.export.export(model, (example,), dynamic_shapes=(axes,)).module()
    for num_slides, num_patches in ((1, 7), (3, 1), (5, 40)):
        batch = torch.randn(num_slides, num_patches, WIDTH)
        with torch.inference_mode():
            assert torch.allclose(exported(batch), model(batch), atol=1e-5)
