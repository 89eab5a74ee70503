"""Reads the features of the patches of a slide, as TRIDENT and CLAM write them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from raysearch.data.files import open_regular
from raysearch.data.images import expansion
from raysearch.data.images.decoding import RejectedImageError
from raysearch.data.images.hdf5 import hdf5_dataset, open_hdf5, read_hdf5
from raysearch.data.shards.shard_manifest import FEATURE_BYTES, MAX_FEATURES
from raysearch.data.sources.feature_table import HDF5_SUFFIXES
from raysearch.errors import DataError, shortened
from raysearch.models.tensor_files import load_tensors

# A value of a Parquet file, which has the features of a slide, is smaller than 2 GiB.
MAX_SLIDE_BYTES = 2**31 - 2**20
FEATURES, COORDINATES = "features", "coords"
ADVICE = "write it again, or remove its row"


@dataclass(frozen=True)
class SlideFeatures:
    """The features of the patches of a slide.

    Attributes:
        values: float16, shape (n, D).
        positions: The left and the top side of each patch on the slide in pixels, int32, shape
            (n, 2); None if they are unknown.
    """

    values: NDArray[np.float16]
    positions: NDArray[np.int32] | None = None


def read_feature_file(path: str) -> SlideFeatures:
    """Read the file of a slide.

    An HDF5 file has the datasets `features`, (n, D) or (1, n, D), and `coords`, (n, 2), if the
    positions are known. A file of torch has a tensor of features, or a dictionary with both.

    Raises:
        DataError: If the file is missing or damaged, has other objects than numbers, or its
            features are not finite in 16 bits, or not one row a patch.
    """
    try:
        is_hdf5 = path.lower().endswith(HDF5_SUFFIXES)
        features, positions = _read_hdf5(path) if is_hdf5 else _read_tensors(path)
        return SlideFeatures(_checked_features(features), _checked_positions(features, positions))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; {ADVICE}") from None
    except (OSError, RuntimeError, TypeError, ValueError, RejectedImageError) as error:
        raise DataError(f"{path}: {error}; {ADVICE}") from None


def _read_hdf5(path: str) -> tuple[NDArray[np.generic], NDArray[np.generic] | None]:
    with open_hdf5(path) as file:
        datasets = [hdf5_dataset(file, FEATURES)]
        if COORDINATES in file:
            datasets.append(hdf5_dataset(file, COORDINATES))
        # Values of variable length may be far larger than their number says.
        kinds = [dataset.dtype for dataset in datasets if dataset.dtype.kind not in "iuf"]
        if kinds:
            raise ValueError(f"has values of type {shortened(kinds[0])}, and not numbers")
        limit = expansion.COMPRESSED_HDF5
        if sum(each.size * each.dtype.itemsize for each in datasets) > limit.max_bytes(path):
            raise ValueError(f"has more than {limit.factor} times the bytes of the file")
        features, *positions = (read_hdf5(dataset, ...) for dataset in datasets)
    return _without_batch(features), positions[0] if positions else None


def _read_tensors(path: str) -> tuple[NDArray[np.generic], NDArray[np.generic] | None]:
    with open_regular(path) as file:
        content = load_tensors(file)
    if isinstance(content, Mapping):
        features, positions = content.get(FEATURES), content.get(COORDINATES)
    else:
        features, positions = content, None
    if positions is not None and not isinstance(positions, Tensor):
        raise ValueError(f"{COORDINATES!r} is no tensor")
    if not isinstance(features, Tensor):
        raise ValueError(f"no tensor of features, and no dictionary with {FEATURES!r}")
    if not _is_stored(features) or (isinstance(positions, Tensor) and not _is_stored(positions)):
        raise ValueError("a tensor is larger than the file")
    if isinstance(positions, Tensor):
        return _without_batch(_to_array(features)), _to_array(positions)
    return _without_batch(_to_array(features)), None


def _is_stored(tensor: Tensor) -> bool:
    """Return whether each number of a tensor has memory of its own: strides can repeat one."""
    return tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


def _to_array(tensor: Tensor) -> NDArray[np.generic]:
    if tensor.is_sparse or tensor.is_quantized or tensor.is_complex():
        raise ValueError(f"a tensor is {tensor.dtype}, {tensor.layout}, and no plain numbers")
    tensor = tensor.detach()
    is_float = tensor.is_floating_point()  # numpy has no bfloat16
    array: NDArray[np.generic] = (tensor.float() if is_float else tensor).numpy()
    return array


def _without_batch(features: NDArray[np.generic]) -> NDArray[np.generic]:
    return features[0] if features.ndim == 3 and len(features) == 1 else features


def _checked_features(features: NDArray[np.generic]) -> NDArray[np.float16]:
    if features.ndim != 2 or not features.size or features.dtype.kind != "f":
        raise ValueError(
            f"its features are {features.dtype} {features.shape}, not numbers (patches, features)"
        )
    num_patches, width = features.shape
    if width > MAX_FEATURES or features.size * FEATURE_BYTES > MAX_SLIDE_BYTES:
        raise ValueError(
            f"{num_patches:,} patches have {width:,} features each; a patch may have"
            f" {MAX_FEATURES:,}, and a slide {MAX_SLIDE_BYTES // FEATURE_BYTES:,}"
        )
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(features, np.float16)
    invalid = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(invalid):
        raise ValueError(
            f"the features of {len(invalid):,} patches are not finite in 16 bits, those of patch"
            f" {invalid[0]} first"
        )
    return values


def _checked_positions(
    features: NDArray[np.generic], positions: NDArray[np.generic] | None
) -> NDArray[np.int32] | None:
    if positions is None:
        return None
    if positions.shape != (len(features), 2):
        raise ValueError(
            f"{len(features):,} rows of features, and positions of shape {positions.shape}"
        )
    if positions.dtype.kind not in "iuf" or not np.isfinite(positions.astype(np.float64)).all():
        raise ValueError(f"its positions are {positions.dtype}, not finite numbers")
    values = positions.astype(np.float64)
    if np.abs(values).max() > np.iinfo(np.int32).max:
        raise ValueError("a position is no pixel of a slide")
    return np.ascontiguousarray(values, np.int32)
