"""Computes the features of the patches of slides, and writes them as shards of bags."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from raysearch.config.hyperparameter_spec import Value
from raysearch.config.names import FROZEN, is_encoder
from raysearch.data.files import Folder
from raysearch.data.shards.patches import Patches, load_patches
from raysearch.data.shards.rows import View
from raysearch.data.shards.shard_manifest import Manifest, read_manifest
from raysearch.data.shards.source_names import SourceNames
from raysearch.data.sources.feature_table import FEATURES_FORMAT
from raysearch.data.sources.listing import Item
from raysearch.errors import DataError
from raysearch.models.architectures.networks import check_patch_shape, check_weights
from raysearch.models.bags.bag_writer import BagSource, write_bags
from raysearch.models.bags.slide_feature_files import SlideFeatures
from raysearch.models.encoders.snapshots import encoder_of
from raysearch.models.transfer.pretrained_weights import weights_hash
from raysearch.training.failures import TrainingFailedError
from raysearch.training.features.extraction import Values
from raysearch.training.features.feature_request import FeatureRequest
from raysearch.training.features.feature_store import load_features
from raysearch.training.train_config import TrainConfig

OnRows = Callable[[int, int], None]


@dataclass(frozen=True)
class SlideFeatureRequest:
    """Which features of which shards are computed.

    Attributes:
        data: The address of the shards of patches.
        task: The task whose labels are kept.
        level: Whether a bag has the patches of a slide, or of a patient.
        hparams: The architecture, its weights and its input.
    """

    data: str
    task: str
    level: str
    hparams: dict[str, Value]


def write_slide_features(request: SlideFeatureRequest, out: Path, on_rows: OnRows) -> Manifest:
    """Compute the features of all patches, and write those of each slide to the new folder `out`.

    The features are stored in the cache, as those of studies with frozen networks are: an
    interrupted call continues.

    Args:
        request: The shards, and the network.
        out: The folder for the shards of bags; it must not exist, or be empty.
        on_rows: Called with the number of patches so far, and of all patches.

    Raises:
        DataError: If the shards, the weights or `out` cannot be used, or the patches of a slide
            have different labels.
        SpaceError: If the weights do not match the architecture, or it does not accept the patches.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out}: already exists; remove it, or name another folder")
    manifest = read_manifest(Folder(request.data))
    if manifest.is_bags:
        raise DataError(f"{request.data}: features already; give shards of patches")
    view = View(request.task)
    patches = load_patches(request.data, view=view)
    groups = _groups(request, patches)
    items = [_item(request, patches, name, rows) for name, rows in groups.items()]
    values = _features(request, patches, view, on_rows)
    source = BagSource(
        format=FEATURES_FORMAT,
        address=request.data,
        class_names=patches.class_names,
        tasks=(),
        warnings=patches.warnings,
        pseudonyms=manifest.pseudonyms,
        are_files=False,
    )
    read = partial(_features_from, list(groups.values()), patches, values)
    return write_bags(source, items, read, out, SourceNames())


def _groups(request: SlideFeatureRequest, patches: Patches) -> dict[str, NDArray[np.int64]]:
    """Return the rows of each slide, or patient, in the order of their names."""
    names = patches.groups(request.level)
    order = np.argsort(names, kind="stable")
    distinct, starts = np.unique(names[order], return_index=True)
    return dict(zip(distinct.tolist(), np.split(order, starts[1:]), strict=True))


def _item(
    request: SlideFeatureRequest, patches: Patches, name: str, rows: NDArray[np.int64]
) -> Item:
    """Return what is known about a slide; DataError if its patches contradict each other."""
    labels = np.unique(patches.labels[rows])
    if len(labels) > 1:
        first, second = (patches.class_names[label] for label in labels[:2])
        raise DataError(
            f"{request.data}: {request.level} {name!r} has patches of {first} and of {second}; a"
            f" label of the {request.level} must be that of all its patches"
        )
    patients = np.unique(patches.patients[rows])
    if len(patients) > 1:
        raise DataError(
            f"{request.data}: the slide {name!r} has patches of the patients {patients[0]!r} and"
            f" {patients[1]!r}; give slides of different patients different names"
        )
    return Item(
        file=name,
        label=int(labels[0]),
        patient=str(patients[0]),
        slide=name,
        site=_common(patches.sites[rows]),
        split=_common(patches.official_splits[rows]),
    )


def _common(values: NDArray[np.str_]) -> str:
    """Return the value of all rows; empty if they differ."""
    distinct = np.unique(values)
    return str(distinct[0]) if len(distinct) == 1 else ""


def _features(
    request: SlideFeatureRequest, patches: Patches, view: View, on_rows: OnRows
) -> Values:
    """Return the features of all patches, float16, shape (N, 1, D)."""
    hparams: dict[str, Value] = {"augment": "none", **request.hparams, "adaptation": FROZEN}
    config = TrainConfig(hparams, 1, "auroc", 0)
    architecture, weights = config.architecture, config.params.weights
    check_patch_shape(architecture, patches.shape, hparams)
    check_weights(architecture, patches.shape, hparams)
    config = TrainConfig(
        hparams,
        1,
        "auroc",
        0,
        weights_hash=weights_hash(architecture, weights),
        encoder=encoder_of(architecture) if is_encoder(architecture) else None,
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    pixels = torch.from_numpy(patches.pixels).to(device)
    rows_id = f"{patches.fingerprint}-{view.key}"
    try:
        return load_features(FeatureRequest(config, pixels, patches.shape, rows_id), on_rows).values
    except TrainingFailedError as error:
        raise DataError(f"{architecture}: {error}; choose another network") from None


def _features_from(
    groups: Sequence[NDArray[np.int64]], patches: Patches, values: Values, start: int
) -> Iterator[SlideFeatures]:
    """Return the features of the slides from the one with the number `start` on."""
    for rows in groups[start:]:
        positions = np.stack([patches.xs[rows], patches.ys[rows]], axis=1)
        # Those of different slides are no positions of one picture.
        is_known = bool(np.isfinite(positions).all()) and len(set(patches.slides[rows])) == 1
        yield SlideFeatures(
            np.ascontiguousarray(values[rows, 0]),
            positions.astype(np.int32) if is_known else None,
        )
