"""Random configurations of a space, which show what its trials will need."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from raysearch.config.constraints import allowed
from raysearch.config.hyperparameter_readers import (
    AUGMENTATION_STRENGTHS,
    FEATURE_HPARAMS,
    HEAD_HPARAMS,
    network_hparams,
)
from raysearch.config.hyperparameter_spec import Value
from raysearch.config.hyperparameters import TrialParams, resolve
from raysearch.config.names import FROZEN
from raysearch.config.space import Hyperparameter, Space
from raysearch.config.space_geometry import sample_hparams

# So many random configurations that satisfy the constraints are drawn. If these exclude most
# configurations of an architecture, at most so many are tried.
NUM_SAMPLED, MAX_TRIED = 60, 3000


def sampled_hparams(space: Space, architecture: str) -> list[dict[str, Value]]:
    """Random configurations of an architecture that satisfy the constraints."""
    import numpy as np

    fixed = Hyperparameter("architecture", "fixed", (architecture,))
    hparams = [hparam for hparam in space.hparams if hparam.name != "architecture"]
    of_architecture = replace(space, hparams=(fixed, *hparams))
    rng = np.random.default_rng(0)
    tried = (sample_hparams(of_architecture, rng) for _sample in range(MAX_TRIED))
    return list(islice((sample for sample in tried if allowed(space, sample)), NUM_SAMPLED))


def feature_kinds(space: Space) -> list[dict[str, Value]]:
    """Return a configuration for each kind of frozen features that trials of `space` read.

    Kinds differ in the network, its input, or the views of a patch; classifiers share them.
    """
    kinds: dict[tuple[object, ...], dict[str, Value]] = {}
    if FROZEN not in space.values_of("adaptation"):
        return []
    for architecture in map(str, space.values_of("architecture")):
        names = sorted(
            (network_hparams(architecture, space.table) | FEATURE_HPARAMS) - HEAD_HPARAMS
        )
        for hparams in sampled_hparams(space, architecture):
            params = resolve(hparams)
            if params.adaptation == FROZEN:
                has_views = "dihedral" in (params.augment, params.tta)
                views = (has_views, *_augmentation(params))
                kind = (*views, *(getattr(params, name) for name in ("architecture", *names)))
                kinds.setdefault(kind, hparams)
    return list(kinds.values())


def _augmentation(params: TrialParams) -> Iterator[Value]:
    """Yield the values on which the augmented views of a patch depend; none if it has none."""
    if params.augmented_views:
        for name in ("augment", "augmented_views", *sorted(AUGMENTATION_STRENGTHS)):
            yield getattr(params, name)
