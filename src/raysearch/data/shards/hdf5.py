"""Rows of images in HDF5 files, such as PatchCamelyon's."""

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
from raysearch.data.shards.decoding import Chunk, RejectedImageError, Size, fit, hashes_of
from raysearch.data.shards.shared_memory import Slot

# A compressed piece is unpacked whole.
MAX_PIECE_BYTES = 256 * 2**20
ROW = "#"
ROWS_AT_ONCE = 256


def image_rows(path: str) -> tuple[int, Size]:
    """How many images the dataset `x` of the file holds, and their (width, height).

    RefusedImageError where it is no uint8 (N, H, W, 3) that lies in the file whole.
    """
    with _opened(path) as file:
        images = _dataset(file, "x")
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
            raise RejectedImageError(f"x is {images.dtype} {images.shape}, not uint8 (N, H, W, 3)")
        if min(images.shape[1:]) < 1:
            raise RejectedImageError(f"x is {images.shape}, and has no pixels")
        return images.shape[0], (images.shape[2], images.shape[1])


def label_rows(path: str) -> NDArray[np.int64]:
    """The dataset `y` of the file, (N,) of 0 and 1; RefusedImageError where it is not that."""
    with _opened(path) as file:
        labels = _dataset(file, "y")
        if labels.dtype.kind not in "iub" or math.prod(labels.shape[1:]) != 1:
            raise RejectedImageError(
                f"y is {labels.dtype} {labels.shape}, not integers (N, 1, 1, 1)"
            )
        values = np.asarray(_read(labels, slice(None)), np.int64).reshape(-1)
        if not np.isin(values, (0, 1)).all():
            raise RejectedImageError("y holds other labels than 0 and 1")
        return values


def row_digests(path: str) -> list[str]:
    """The SHA-1, in hex, of the bytes of each image of the dataset `x`, which is Kaggle's id."""
    with _opened(path) as file:
        images = _dataset(file, "x")
        return [
            hashlib.sha1(row, usedforsecurity=False).hexdigest()
            for start in range(0, images.shape[0], ROWS_AT_ONCE)
            for row in _read(images, slice(start, start + ROWS_AT_ONCE))
        ]


def read_rows(folder: Folder, files: Sequence[str], size: Size, slot: Slot) -> Chunk:
    """Put the rows `NAME#ROW` of the HDF5 files in `folder` at `size` into `slot`, in order."""
    chunk = Chunk()
    patches = slot.bytes().reshape(-1, size[1], size[0], 3)
    opened: dict[str, h5py.File] = {}
    try:
        for place, file in enumerate(files):
            name, _, row = file.rpartition(ROW)
            try:
                if name not in opened:
                    opened[name] = _opened(folder.path(name))
                pixels = _read(_dataset(opened[name], "x"), int(row))
            except RejectedImageError as error:
                chunk.rejected.append((place, str(error)))
                continue
            patches[len(chunk.kept)], fitted = fit(Image.fromarray(pixels), size)
            chunk.kept.append(place)
            chunk.fitted.append(fitted)
    finally:
        for one in opened.values():
            one.close()
    chunk.hashes = hashes_of(patches[: len(chunk.kept)])
    return chunk


def _opened(path: str) -> h5py.File:
    try:
        return h5py.File(path, "r")
    except OSError as error:
        reason = "truncated" if "truncat" in str(error) else "damaged, or no HDF5 file"
        raise RejectedImageError(reason) from None


def _dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """The dataset `name` that lies in this very file, all of it."""
    try:
        link = file.get(name, getlink=True)
        if link is None:
            raise RejectedImageError(f"no dataset {name} in it")
        if not isinstance(link, h5py.HardLink):
            raise RejectedImageError(f"{name} is a link elsewhere")
        found = file[name]
        if not isinstance(found, h5py.Dataset) or found.ndim < 1:
            raise RejectedImageError(f"{name} is no dataset with rows")
        if found.external or found.is_virtual:
            raise RejectedImageError(f"{name} lies in other files")
        piece = math.prod(found.chunks or ()) * found.dtype.itemsize
        if piece > MAX_PIECE_BYTES:
            raise RejectedImageError(f"{name} is in pieces of more than {MAX_PIECE_BYTES:,} bytes")
        if not _whole(found):
            raise RejectedImageError(f"{name} is not all there")
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError):
        raise RejectedImageError("damaged") from None
    return found


def _whole(found: h5py.Dataset) -> bool:
    """Whether all of it is stored: what is not reads as zeros."""
    if found.chunks is None:
        return bool(found.id.get_storage_size() == found.size * found.dtype.itemsize)
    pieces = [math.ceil(side / part) for side, part in zip(found.shape, found.chunks, strict=True)]
    return bool(found.id.get_num_chunks() == math.prod(pieces))


def _read(found: h5py.Dataset, rows: Any) -> NDArray[Any]:
    try:
        return np.asarray(found[rows])
    except (OSError, RuntimeError, ValueError, IndexError, TypeError):
        raise RejectedImageError("damaged") from None
