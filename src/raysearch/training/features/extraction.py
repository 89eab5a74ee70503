"""Computes the features of patches by a pretrained network."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from raysearch.models.architectures.networks import build_extractor
from raysearch.models.dihedral import dihedral_transform
from raysearch.models.transfer.feature_network import as_stored
from raysearch.training.augmentation import Augmentation
from raysearch.training.batches import normalized_batch
from raysearch.training.failures import TrainingFailedError
from raysearch.training.features.feature_request import FeatureRequest
from raysearch.training.preprocessed_pixels import build_preprocessing
from raysearch.training.seeds import key

log = logging.getLogger(__name__)
BATCH_SIZE = 64
Values = NDArray[np.float16]
# Stored patches and the number of the first one -> batches of views.
Views = Callable[[Tensor, int], Iterator[Tensor]]


@dataclass(frozen=True)
class PatchFeatures:
    """The features of patches.

    Attributes:
        values: float16, shape (N, views, D): the dihedral transforms of a patch, then its random
            augmentations.
        view_ms: The time of one view of a patch in milliseconds, from the stored pixels on.
    """

    values: Values
    view_ms: float


class Extractor:
    """Computes features of the patches of a request; the network is built at the first use.

    Args:
        request: The patches and the network.
    """

    def __init__(self, request: FeatureRequest) -> None:
        self._request = request
        self._network: nn.Module | None = None

    @torch.inference_mode()
    def compute(self, start: int, stop: int) -> PatchFeatures:
        """Return the features of the patches from `start` to `stop`.

        Raises:
            DataError: If the weights cannot be read.
            SpaceError: If the weights do not match the architecture.
            TrainingFailedError: If a feature is not finite in float16.
        """
        request = self._request
        self._built_network()
        begin = time.perf_counter()
        values = self._computed(start, stop, self._dihedral_views)
        elapsed_ms = 1000 * (time.perf_counter() - begin)
        view_ms = elapsed_ms / (len(values) * request.num_views)
        if request.num_augmented_views:
            augmented = self._computed(start, stop, self._augmented_views)
            values = np.concatenate([values, augmented], axis=1)
        if not np.isfinite(values).all():
            raise TrainingFailedError(
                f"the features of {request.config.architecture} are not finite in 16 bits"
            )
        return PatchFeatures(values, view_ms)

    def _computed(self, start: int, stop: int, views_of: Views) -> Values:
        """The features of views of the patches from `start` to `stop`, (N, views, D)."""
        request, network = self._request, self._built_network()
        settings, device = request.config.precision_settings, request.pixels.device
        batches = []
        for first_row in range(start, stop, BATCH_SIZE):
            pixels = request.pixels[first_row : min(first_row + BATCH_SIZE, stop)]
            patches = self._preprocessing(pixels.view(-1, *request.shape))
            views = []
            for view in views_of(patches.reshape(len(pixels), -1), first_row):
                with settings.autocast(device):  # the augmentation is float32, as in training
                    views.append(as_stored(network(view)))
            batches.append(torch.stack(views, dim=1))
        # The copy waits for the device.
        return np.asarray(torch.cat(batches).cpu().numpy(), np.float16)

    def _dihedral_views(self, patches: Tensor, _first_row: int) -> Iterator[Tensor]:
        """Yield the dihedral transforms of patches (B, H*W*3), each float32 (B, 3, H, W)."""
        batch = self._batch(patches)
        for view in range(self._request.num_views):
            yield dihedral_transform(batch, view)

    def _augmented_views(self, patches: Tensor, first_row: int) -> Iterator[Tensor]:
        """Yield random augmentations of patches (B, H*W*3), each float32 (B, 3, H, W)."""
        augmentation = Augmentation.from_params(self._request.config.params)
        for view in range(self._request.num_augmented_views):
            # The same for all studies and trials, which share the features.
            generator = torch.Generator().manual_seed(key("augmented view", first_row, view))
            dihedral_rng = generator if augmentation.has_dihedral else None
            yield augmentation(self._batch(patches, dihedral_rng), generator)

    def _batch(self, patches: Tensor, dihedral_rng: torch.Generator | None = None) -> Tensor:
        request = self._request
        memory_format = request.config.precision_settings.torch_memory_format
        return normalized_batch(patches, request.shape, memory_format, dihedral_rng)

    def _built_network(self) -> nn.Module:
        if self._network is None:
            request, config = self._request, self._request.config
            log.info(
                "computing the features of %s: %d patches, %d views of each",
                config.architecture,
                len(request.pixels),
                request.num_views + request.num_augmented_views,
            )
            self._preprocessing = build_preprocessing(config.hparams).to(request.pixels.device)
            network = build_extractor(
                config.architecture,
                request.shape,
                2,  # the head is left out
                config.hparams,
                config.weights_hash,
                config.encoder,
            )
            device = request.pixels.device
            self._network = config.precision_settings.to_device(network, device)
        return self._network


def chunks(num_rows: int, chunk_rows: int) -> Iterator[tuple[int, int]]:
    """Yield the first row of each chunk, and the row after its last."""
    for start in range(0, num_rows, chunk_rows):
        yield start, min(start + chunk_rows, num_rows)
