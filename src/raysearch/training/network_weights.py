"""The weights that a finished training leaves: those of its network and of its preprocessing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from raysearch.models.tensor_files import is_state_dict
from raysearch.models.transfer.feature_network import without_extractors
from raysearch.training.checkpoint import pack, unpack


@dataclass(frozen=True)
class NetworkWeights:
    """State dictionaries of a trained network and of its fitted preprocessing, on the CPU.

    Attributes:
        trial: Name of the trial.
        model: The network's weights, possibly without those of a frozen encoder.
        preprocessing: The preprocessing's fitted values.
        seed: The repeat seed; None for a refit.
        fold: The fold whose training rows were used; None for a refit.
    """

    trial: str
    model: Mapping[str, Tensor]
    preprocessing: Mapping[str, Tensor]
    seed: int | None = None
    fold: int | None = None


def pack_network_weights(
    trial: str,
    network: nn.Module,
    preprocessing: nn.Module,
    seed: int | None = None,
    fold: int | None = None,
    *,
    without_encoder: bool = False,
) -> bytes:
    """Pack the weights of a trained network and of its preprocessing, with a hash over them.

    Args:
        trial: Name of the trial.
        network: The network.
        preprocessing: Its fitted preprocessing.
        seed: The repeat seed; None for a refit.
        fold: The fold whose training rows were used; None for a refit.
        without_encoder: Whether the weights of a frozen encoder are left out.
    """
    model = _on_cpu(network)
    return pack(
        {
            "trial": trial,
            "seed": seed,
            "fold": fold,
            "model": without_extractors(network, model) if without_encoder else model,
            "preprocessing": _on_cpu(preprocessing),
        }
    )


def unpack_network_weights(content: bytes) -> NetworkWeights:
    """Unpack what `pack_network_weights` packed; ValueError if the content is damaged."""
    stored = unpack(content)
    try:
        weights = NetworkWeights(**stored)
    except TypeError as error:
        raise ValueError(f"not the weights of a network ({error})") from None
    numbers = (weights.seed, weights.fold)
    if (
        not isinstance(weights.trial, str)
        or not all(number is None or type(number) is int for number in numbers)
        or not (is_state_dict(weights.model) and is_state_dict(weights.preprocessing))
    ):
        raise ValueError("not the weights of a network (a field has another type)")
    return weights


def _on_cpu(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.cpu() for name, value in module.state_dict().items()}
