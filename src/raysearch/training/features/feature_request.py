"""What features are computed from: patches, a pretrained network, and what precedes it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from raysearch.config.hyperparameter_readers import (
    AUGMENTATION_STRENGTHS,
    HEAD_HPARAMS,
    network_hparams,
)
from raysearch.config.names import FROZEN, IMAGENET, NO_WEIGHTS, PRETRAINED
from raysearch.errors import SpaceError
from raysearch.models import PatchShape
from raysearch.models.architectures.networks import network_input_shape
from raysearch.models.dihedral import num_dihedral_transforms
from raysearch.training.preprocessed_pixels import build_preprocessing
from raysearch.training.train_config import TrainConfig
from raysearch.training.training_data import TrainingData

# The version of what is computed; it increases whenever a result changes.
FORMAT = 1


@dataclass(frozen=True)
class FeatureRequest:
    """The patches whose features are needed, and the network that computes them.

    Attributes:
        config: The configuration of the training.
        pixels: The patches, uint8, shape (N, H*W*3), on the device that computes.
        shape: The patch shape (H, W, 3).
        rows_id: Identifies the patches, as the hash of their shards does; empty if they are not
            stored, such as those of a probe. Their features are not stored either.
    """

    config: TrainConfig
    pixels: Tensor
    shape: PatchShape
    rows_id: str

    @property
    def num_views(self) -> int:
        """The number of dihedral transforms of each patch whose features are computed."""
        params = self.config.params
        has_views = "dihedral" in (params.augment, params.tta)
        return num_dihedral_transforms(*self.shape[:2]) if has_views else 1

    @property
    def num_augmented_views(self) -> int:
        """The number of random augmentations of each patch whose features are computed."""
        return self.config.params.augmented_views

    @property
    def is_storable(self) -> bool:
        """Whether the patches and the weights are known by their hashes."""
        return bool(self.rows_id and self.config.weights_hash)

    @cached_property
    def key(self) -> str:
        """The hash of all that the features depend on, in hexadecimal."""
        params, config = self.config.params, self.config
        names = (network_hparams(params.architecture) | {"normalization", "preprocess"}) - (
            HEAD_HPARAMS
        )
        encoder = config.encoder
        # The files of an encoder may lie elsewhere on another machine.
        network = params.architecture if encoder is None else asdict(replace(encoder, name=""))
        identity = {
            "format": FORMAT,
            "torch": torch.__version__.partition("+")[0],
            "rows": [self.rows_id, len(self.pixels), *self.shape],
            "weights": config.weights_hash,
            "network": network,
            "input": network_input_shape(self.shape, params, encoder),
            "hparams": {name: getattr(params, name) for name in sorted(names)},
            "preprocess": params.arguments_of("preprocess"),
            # ImageNet's and an encoder's own weights have a normalization of their own.
            "has_own_normalization": params.weights in (IMAGENET, PRETRAINED),
            "precision": asdict(config.precision_settings),
            "views": self.num_views,
        }
        if self.num_augmented_views:
            augmentation = AUGMENTATION_STRENGTHS | {"augment", "augmented_views"}
            identity["augmented"] = {name: getattr(params, name) for name in sorted(augmentation)}
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()

    def check(self) -> None:
        """Raise SpaceError if the features would differ from fold to fold, or are of no use."""
        if self.rows_id and self.config.params.weights == NO_WEIGHTS:
            raise SpaceError(
                f"adaptation {FROZEN}: {self.config.params.architecture} has no pretrained weights,"
                " and its random features would differ each time; give `weights`"
            )
        if build_preprocessing(self.config.hparams).state_dict():
            raise SpaceError(
                f"preprocess {self.config.params.preprocess} is fitted to each fold, so that frozen"
                " features would have to be computed for each; choose another, or `adaptation:"
                " full`"
            )


def feature_requests(config: TrainConfig, data: TrainingData) -> list[FeatureRequest]:
    """Return the requests of a training: of its own patches, then of each auxiliary set."""
    shards = [(data.pixels, data.rows_id)]
    if config.params.auxiliary_weight:
        shards += [(rows.pixels, rows.rows_id) for rows in data.auxiliary]
    return [FeatureRequest(config, pixels, data.shape, rows_id) for pixels, rows_id in shards]
