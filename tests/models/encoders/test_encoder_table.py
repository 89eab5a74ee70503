"""Each row of the table of encoders is built without memory, and has the published sizes."""

from __future__ import annotations

import pytest
import torch

from raysearch.config.hyperparameter_spec import Value
from raysearch.config.names import ENCODER_NAMES
from raysearch.errors import SpaceError
from raysearch.models.architectures.networks import build_network, check_patch_shape
from raysearch.models.encoders.encoder_network import EncoderNetwork, encoder_network
from raysearch.models.encoders.encoder_table import ENCODERS
from raysearch.models.transfer.input_normalization import NormalizedInput, unwrap
from raysearch.models.transfer.network_layers import blocks, head_name

# The embeddings of the model cards.
WIDTHS = {
    "uni": 1024,
    "uni2-h": 1536,
    "virchow": 2560,
    "virchow2": 2560,
    "h-optimus-0": 1536,
    "h-optimus-1": 1536,
    "h0-mini": 1536,
    "gigapath": 1536,
    "phikon": 768,
    "phikon-v2": 1024,
    "midnight-12k": 3072,
    "lunit-s16": 384,
    "lunit-s8": 384,
}


def test_the_table_has_the_names_that_a_space_may_use() -> None:
    assert tuple(ENCODERS) == ENCODER_NAMES == tuple(WIDTHS)


@pytest.mark.parametrize("name", ENCODERS)
def test_each_encoder_has_its_parameters_entries_and_embedding(name: str) -> None:
    encoder = ENCODERS[name]
    with torch.device("meta"), torch.inference_mode():
        network = encoder_network(encoder, (224, 224, 3), 2).eval()
        embeddings = network.embed(torch.empty(2, 3, 224, 224))
        logits = network(torch.empty(2, 3, 224, 224))
    model = network.encoder
    assert sum(parameter.numel() for parameter in model.parameters()) == encoder.num_parameters
    assert len(model.state_dict()) == encoder.num_entries
    assert embeddings.shape == (2, WIDTHS[name])
    assert logits.shape == (2, 2)
    assert encoder.license or encoder.is_gated
    assert encoder.pretrained_on


@pytest.mark.parametrize("name", ["lunit-s16", "phikon"])
def test_the_blocks_of_an_encoder_are_layers_of_their_own(name: str) -> None:
    with torch.device("meta"):
        network = unwrap(build_network(name, (64, 64, 3), 2, {"input_size": 64}))
    assert isinstance(network, EncoderNetwork)
    assert head_name(network, 2) == "head"
    names = [each for each, _layer in blocks(network, "head")]
    assert len(names) >= 14  # 12 blocks between the embedding and the last normalization
    assert all(each.startswith("encoder.") for each in names)


def test_patches_are_resized_and_standardized_as_an_encoder_was_trained() -> None:
    with torch.device("meta"):
        network = build_network("h0-mini", (50, 50, 3), 2, {})
        assert network(torch.empty(1, 3, 50, 50)).shape == (1, 2)
    assert network.size == 224
    normalized = network.net
    assert isinstance(normalized, NormalizedInput)
    assert normalized.mean == ENCODERS["h0-mini"].mean


def test_an_input_that_the_grid_of_patches_does_not_divide_is_rejected() -> None:
    with pytest.raises(SpaceError, match=r"of 50x50: it cuts it in squares of 16; .* such as 48"):
        check_patch_shape("lunit-s16", (50, 50, 3), {"input_size": 50})
    check_patch_shape("lunit-s16", (50, 50, 3), {"input_size": 48})


@pytest.mark.parametrize(("pooling", "width"), [("class", 384), ("mean", 384), ("class_mean", 768)])
def test_the_tokens_are_pooled_as_the_hyperparameter_says(pooling: str, width: int) -> None:
    hparams: dict[str, Value] = {"input_size": 32, "token_pooling": pooling}
    network = unwrap(build_network("lunit-s16", (32, 32, 3), 2, hparams)).eval()
    assert isinstance(network, EncoderNetwork)
    batch = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        tokens = network.encoder.forward_features(batch)  # type: ignore[operator]
        expected = {
            "class": tokens[:, 0],
            "mean": tokens[:, 1:].mean(dim=1),
            "class_mean": torch.cat([tokens[:, 0], tokens[:, 1:].mean(dim=1)], dim=1),
        }
        assert torch.equal(network.embed(batch), expected[pooling])
    assert network.embed(batch).shape == (2, width)
