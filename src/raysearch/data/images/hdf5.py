"""Reads images and labels from HDF5 files, such as PatchCamelyon's, and rejects malicious files."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from raysearch.data.files import Folder
from raysearch.data.images.decoding import Chunk, RejectedImageError, Size, patch_hashes, resize
from raysearch.data.images.shared_memory import Slot

# A compressed HDF5 chunk is decompressed as a whole.
MAX_CHUNK_BYTES = 256 * 2**20
ROW_SEPARATOR = "#"
ROWS_AT_ONCE = 256


def count_images(path: str) -> tuple[int, Size]:
    """Count the images in the dataset `x` of an HDF5 file.

    Returns:
        The number of images, and their (width, height).

    Raises:
        RejectedImageError: If the dataset is not uint8 (N, H, W, 3), or is not stored completely
            in the file.
    """
    with _open(path) as file:
        images = _dataset(file, "x")
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
            raise RejectedImageError(f"x is {images.dtype} {images.shape}, not uint8 (N, H, W, 3)")
        if min(images.shape[1:]) < 1:
            raise RejectedImageError(f"x is {images.shape}, and has no pixels")
        return images.shape[0], (images.shape[2], images.shape[1])


def read_labels(path: str) -> NDArray[np.int64]:
    """Read the dataset `y` of an HDF5 file.

    Returns:
        The labels, 0 or 1, shape (N,).

    Raises:
        RejectedImageError: If the dataset is of another type, or has other labels.
    """
    with _open(path) as file:
        labels = _dataset(file, "y")
        if labels.dtype.kind not in "iub" or math.prod(labels.shape[1:]) != 1:
            raise RejectedImageError(
                f"y is {labels.dtype} {labels.shape}, not integers (N, 1, 1, 1)"
            )
        values = np.asarray(_read(labels, slice(None)), np.int64).reshape(-1)
        if not np.isin(values, (0, 1)).all():
            raise RejectedImageError("y has other labels than 0 and 1")
        return values


def image_sha1s(path: str) -> list[str]:
    """The SHA-1, in hex, of the pixels of each image in `x`; Kaggle uses it as the image's id."""
    with _open(path) as file:
        images = _dataset(file, "x")
        return [
            hashlib.sha1(row, usedforsecurity=False).hexdigest()
            for start in range(0, images.shape[0], ROWS_AT_ONCE)
            for row in _read(images, slice(start, start + ROWS_AT_ONCE))
        ]


def read_rows(folder: Folder, files: Sequence[str], size: Size, slot: Slot) -> Chunk:
    """Read rows of HDF5 files and resize them into `slot`.

    Args:
        folder: The folder of the HDF5 files.
        files: `NAME#ROW` of each row.
        size: (width, height) of the result.
        slot: Where the pixels are written.
    """
    chunk = Chunk()
    patches = slot.bytes().reshape(-1, size[1], size[0], 3)
    open_files: dict[str, h5py.File] = {}
    try:
        for position, file in enumerate(files):
            name, _, row = file.rpartition(ROW_SEPARATOR)
            try:
                if name not in open_files:
                    open_files[name] = _open(folder.path(name))
                pixels = _read(_dataset(open_files[name], "x"), int(row))
            except RejectedImageError as error:
                chunk.rejected.append((position, str(error)))
                continue
            patches[len(chunk.decoded)], resize_mode = resize(Image.fromarray(pixels), size)
            chunk.decoded.append(position)
            chunk.resize_modes.append(resize_mode)
    finally:
        for open_file in open_files.values():
            open_file.close()
    chunk.hashes = patch_hashes(patches[: len(chunk.decoded)])
    return chunk


def _open(path: str) -> h5py.File:
    try:
        return h5py.File(path, "r")
    except OSError as error:
        reason = "truncated" if "truncat" in str(error) else "damaged, or no HDF5 file"
        raise RejectedImageError(reason) from None


def _dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """The dataset `name`; RejectedImageError if it is not stored completely in this very file."""
    try:
        link = file.get(name, getlink=True)
        if link is None:
            raise RejectedImageError(f"no dataset {name} in it")
        if not isinstance(link, h5py.HardLink):
            raise RejectedImageError(f"{name} is a link to another file")
        dataset = file[name]
        if not isinstance(dataset, h5py.Dataset) or dataset.ndim < 1:
            raise RejectedImageError(f"{name} is no dataset with rows")
        if dataset.external or dataset.is_virtual:
            raise RejectedImageError(f"{name} is stored in other files")
        chunk_bytes = math.prod(dataset.chunks or ()) * dataset.dtype.itemsize
        if chunk_bytes > MAX_CHUNK_BYTES:
            raise RejectedImageError(f"{name} has chunks of more than {MAX_CHUNK_BYTES:,} bytes")
        if not _is_complete(dataset):
            raise RejectedImageError(f"{name} is incomplete")
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError):
        raise RejectedImageError("damaged") from None
    return dataset


def _is_complete(dataset: h5py.Dataset) -> bool:
    """Whether all of the dataset is stored; HDF5 reads missing parts as zeros."""
    if dataset.chunks is None:
        return bool(dataset.id.get_storage_size() == dataset.size * dataset.dtype.itemsize)
    chunks_by_axis = [
        math.ceil(length / chunk_length)
        for length, chunk_length in zip(dataset.shape, dataset.chunks, strict=True)
    ]
    return bool(dataset.id.get_num_chunks() == math.prod(chunks_by_axis))


def _read(dataset: h5py.Dataset, rows: Any) -> NDArray[Any]:
    try:
        return np.asarray(dataset[rows])
    except (OSError, RuntimeError, ValueError, IndexError, TypeError):
        raise RejectedImageError("damaged") from None
