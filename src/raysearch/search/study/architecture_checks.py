"""Checks that the architectures of a space accept the patches of a study, and their weights."""

from __future__ import annotations

from raysearch.config.space import Space
from raysearch.models import PatchShape
from raysearch.models.architectures.networks import check_patch_shape, check_weights


def check_architectures(space: Space, shape: PatchShape) -> None:
    """Build every architecture of `space`, and check the pretrained weights that it starts from.

    Raises:
        SpaceError: If an architecture does not accept patches of `shape`, or weights do not match.
        DataError: If weights cannot be read or downloaded.
    """
    for architecture, hparams in space.largest_networks().items():
        check_patch_shape(architecture, shape, hparams)
        # The benchmark trial starts without weights, whatever the other trials do.
        if architecture in space.values_of("architecture"):
            for weights in space.weights_of(architecture):
                check_weights(architecture, shape, {**hparams, "weights": weights})
