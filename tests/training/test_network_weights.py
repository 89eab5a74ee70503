"""Weights of a training: read as they were written, or rejected."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from raysearch.training.checkpoint import pack
from raysearch.training.network_weights import pack_network_weights, unpack_network_weights


def test_written_weights_are_read_as_they_were() -> None:
    network, preprocessing = nn.Linear(3, 2), nn.BatchNorm1d(4)
    content = pack_network_weights("t0001", network, preprocessing, seed=5, fold=2)
    weights = unpack_network_weights(content)
    assert (weights.trial, weights.seed, weights.fold) == ("t0001", 5, 2)
    assert torch.equal(weights.model["weight"], network.weight)
    assert weights.preprocessing.keys() == preprocessing.state_dict().keys()


def test_damaged_and_other_content_is_rejected() -> None:
    content = pack_network_weights("t0001", nn.Linear(3, 2), nn.Identity())
    with pytest.raises(ValueError, match="hash does not match"):
        unpack_network_weights(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ValueError, match="not the weights of a network"):
        unpack_network_weights(pack({"epoch": 3}))
