"""Converts stored state dictionaries to those of an encoder: renamed, and for its input size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from raysearch.errors import SpaceError, first_line
from raysearch.models.encoders.encoder_network import PLAIN_TYPES
from raysearch.models.weights.state_dicts import StateDict, without_prefix

POSITIONS = "pos_embed"


def encoder_state(encoder: nn.Module, stored: StateDict) -> StateDict:
    """Return the entries of `stored` under the names of `encoder`.

    Position embeddings of timm's vision transformers are interpolated to the grid of `encoder`.
    transformers does that in every forward pass.

    Args:
        encoder: A model of timm or transformers, possibly on the meta device.
        stored: A state dictionary as it is published, bare or with a prefix.

    Raises:
        SpaceError: If the position embeddings cannot be interpolated.
    """
    if hasattr(encoder, "config"):
        return _with_current_names(encoder, stored)
    return with_interpolated_positions(encoder, without_prefix(stored, encoder.state_dict()))


def with_interpolated_positions(encoder: nn.Module, state: StateDict) -> StateDict:
    """Return `state` with the position embeddings of timm's vision transformers in their size.

    Raises:
        SpaceError: If the position embeddings cannot be interpolated.
    """
    expected, positions = encoder.state_dict().get(POSITIONS), state.get(POSITIONS)
    if positions is None or expected is None or positions.shape == expected.shape:
        return state
    return {**state, POSITIONS: _interpolated_positions(encoder, positions)}


def _interpolated_positions(encoder: Any, positions: Tensor) -> Tensor:
    """Return position embeddings (1, T, D) for the grid of `encoder`."""
    from timm.layers import resample_abs_pos_embed

    try:
        num_prefix_tokens = 0 if encoder.no_embed_class else encoder.num_prefix_tokens
        interpolated: Tensor = resample_abs_pos_embed(
            positions,
            new_size=list(encoder.patch_embed.grid_size),
            num_prefix_tokens=num_prefix_tokens,
        )
    except (RuntimeError, IndexError, AttributeError) as error:
        raise SpaceError(
            f"weights: position embeddings of shape {tuple(positions.shape)} cannot be interpolated"
            f" ({first_line(error, 100)}); give a file of the same net"
        ) from None
    return interpolated


def _with_current_names(encoder: Any, stored: StateDict) -> StateDict:
    """Return `stored` under the names of the installed version of transformers."""
    names = encoder.state_dict().keys()
    state = without_prefix(stored, encoder.state_dict())
    if names <= state.keys():
        return state
    config = encoder.config
    options = {"add_pooling_layer": False} if config.model_type in PLAIN_TYPES else {}
    with _quiet_transformers():
        converted, info = type(encoder).from_pretrained(
            None,
            config=config,
            state_dict=dict(stored),
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **options,
        )
    # What does not fit keeps random weights; it is missing from the result, and so reported.
    absent = {*info["missing_keys"], *(key for key, *_shapes in info["mismatched_keys"])}
    return {name: value for name, value in converted.state_dict().items() if name not in absent}


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Let transformers print no progress and no report inside the `with` block."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        logging.enable_progress_bar()
