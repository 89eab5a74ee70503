"""Names the encoder of the table to which a state dictionary belongs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import torch
from torch import Tensor

from raysearch.models.encoders.encoder_network import encoder_network
from raysearch.models.encoders.encoder_table import ENCODERS
from raysearch.models.weights.state_dicts import without_prefix

# A file belongs to an encoder if so many of its entries are there, with the same shape.
MIN_FRACTION = 0.95


def nearest_encoder(stored: Mapping[str, Tensor]) -> str | None:
    """Return the name of the encoder whose entries `stored` has; None if it is that of none.

    Encoders of the same architecture, such as H-optimus-0 and 1, cannot be told apart.
    """
    for name, encoder in ENCODERS.items():
        shapes = _shapes(name)
        state = without_prefix(dict(stored), shapes)
        num_equal = sum(shapes.get(key) == value.shape for key, value in state.items())
        if num_equal >= MIN_FRACTION * encoder.num_entries:
            return name
    return None


@cache
def _shapes(name: str) -> dict[str, torch.Size]:
    """Return the shapes of the entries of an encoder, by name; nothing is allocated."""
    with torch.device("meta"):
        encoder = encoder_network(ENCODERS[name], (224, 224, 3), 2).encoder
    return {key: value.shape for key, value in encoder.state_dict().items()}
