"""The networks of a space, which differ in cost: architectures, and how they are adapted.

The training of a whole network takes a thousand times as long as that of a classifier of its frozen
features. If trials adapt an architecture in several ways, each of these is a network of its own.
"""

from __future__ import annotations

from functools import lru_cache

from raysearch.config.hyperparameter_spec import Hparams
from raysearch.config.names import FROZEN, FULL
from raysearch.config.space import Space
from raysearch.search.journal.history import History
from raysearch.search.sampling.exclusions import remaining_space
from raysearch.search.sampling.sampled_configurations import sampled_hparams


def architectures_of(space: Space) -> tuple[str, ...]:
    """Return the architectures of the searched trials."""
    return tuple(map(str, space.values_of("architecture")))


def network_of(space: Space, hparams: Hparams) -> str:
    """Return the name of the network of a trial.

    That is its architecture; if the trials of the space have several values of `adaptation`, with
    the value in parentheses, such as `resnet18 (frozen)`.
    """
    architecture = str(hparams.get("architecture", architectures_of(space)[0]))
    if len(set(space.values_of("adaptation"))) <= 1:
        return architecture
    return f"{architecture} ({hparams.get('adaptation', FULL)})"


@lru_cache(8)
def networks_of(space: Space) -> tuple[str, ...]:
    """Return the networks of the searched trials."""
    if len(set(space.values_of("adaptation"))) <= 1:
        return architectures_of(space)
    names = [
        network_of(space, hparams)
        for architecture in architectures_of(space)
        for hparams in sampled_hparams(space, architecture)
    ]
    return tuple(dict.fromkeys(names))


def architectures_by_network(space: Space) -> dict[str, str]:
    """Return the architecture of each possible network."""
    return {
        network_of(space, {"architecture": architecture, "adaptation": adaptation}): architecture
        for architecture in architectures_of(space)
        for adaptation in {*space.values_of("adaptation"), FULL}
    }


def reports_per_fold(space: Space, network: str) -> float:
    """Return how often a trial with that network reports in a fold, in the mean over its epochs."""
    mean_epochs = sum(space.epoch_values) / len(space.epoch_values)
    if FROZEN not in space.values_of("adaptation"):
        return mean_epochs
    frozen_networks = {
        network_of(space, {"architecture": architecture, "adaptation": FROZEN})
        for architecture in architectures_of(space)
    }
    return 1.0 if network in frozen_networks else mean_epochs


def remaining_networks(space: Space, history: History) -> tuple[str, ...]:
    """Return the networks of further trials: those that the user has not excluded."""
    if not history.exclusions:
        return networks_of(space)
    remaining = remaining_space(space, history)
    adaptations = {*remaining.values_of("adaptation")}
    # A network without the hyperparameter is trained in full.
    excluded = {
        network_of(space, {"architecture": architecture, "adaptation": adaptation})
        for architecture in architectures_of(space)
        for adaptation in {*space.values_of("adaptation")} - adaptations
    } | {
        network
        for network, architecture in architectures_by_network(space).items()
        if architecture not in architectures_of(remaining)
    }
    names = networks_of(space)
    return tuple(name for name in names if name not in excluded) or names
