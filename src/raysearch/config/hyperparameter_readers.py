"""Which hyperparameters a training, or a network, reads."""

from __future__ import annotations

from collections.abc import Mapping

from raysearch.config.hyperparameter_spec import SELECTORS
from raysearch.config.hyperparameters import HYPERPARAMETERS


def hparams_read_by(components: Mapping[str, str]) -> frozenset[str]:
    """Return the hyperparameters that a training reads that uses `components`, by selector.

    A selector that `components` lacks has its default.
    """
    defaults = {selector: str(HYPERPARAMETERS[selector].default) for selector in SELECTORS}
    used = {**defaults, **components}
    return frozenset(name for name, row in HYPERPARAMETERS.items() if row.is_read_by(used))


def network_hparams(architecture: str) -> frozenset[str]:
    """Return the hyperparameters that define the network of `architecture`, without its weights."""
    components = {"architecture": architecture}
    return frozenset(
        name
        for name, row in HYPERPARAMETERS.items()
        if row.part == "head" or (row.part == "architecture" and row.is_read_by(components))
    )
