"""Reads images and labels from HDF5 files, such as PatchCamelyon's, and rejects malicious files.

HDF5 decompresses a chunk as a whole, and a chunk may have thousands of rows. Such files are copied
once, row after row, to a file without chunks, from which rows are then read in any order.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from operator import gt
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from raysearch.data.files import Folder, open_regular
from raysearch.data.images import expansion
from raysearch.data.images.chunk_decoding import Chunk, patch_hashes
from raysearch.data.images.decoding import RejectedImageError, Size, resize
from raysearch.data.images.shared_memory import Slot
from raysearch.errors import DataError

MAX_CHUNK_BYTES = 256 * 2**20
# The rows that are decompressed at once.
MAX_BLOCK_BYTES = 2**30
# The suffix of the copy without chunks, beside the HDF5 file.
FLAT_SUFFIX = ".npy"
ROW_SEPARATOR = "#"
ROWS_AT_ONCE = 256


def count_images(path: str) -> tuple[int, Size]:
    """Count the images in the dataset `x` of an HDF5 file.

    Returns:
        The number of images, and their (width, height).

    Raises:
        RejectedImageError: If the dataset is not uint8 (N, H, W, 3), is not stored completely in
            the file, or has far more bytes than the file.
    """
    with open_hdf5(path) as file:
        images = hdf5_dataset(file, "x")
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
            raise RejectedImageError(f"x is {images.dtype} {images.shape}, not uint8 (N, H, W, 3)")
        if min(images.shape[1:]) < 1:
            raise RejectedImageError(f"x is {images.shape}, and has no pixels")
        if images.size > expansion.IMAGES.max_bytes(path):
            raise RejectedImageError(
                f"x has more than {expansion.IMAGES.factor} times the bytes of the file"
            )
        return images.shape[0], (images.shape[2], images.shape[1])


def read_labels(path: str) -> NDArray[np.int64]:
    """Read the dataset `y` of an HDF5 file.

    Returns:
        The labels, 0 or 1, shape (N,).

    Raises:
        RejectedImageError: If the dataset is of another type, or has other labels.
    """
    with open_hdf5(path) as file:
        labels = hdf5_dataset(file, "y")
        if labels.dtype.kind not in "iub" or math.prod(labels.shape[1:]) != 1:
            raise RejectedImageError(
                f"y is {labels.dtype} {labels.shape}, not integers (N, 1, 1, 1)"
            )
        values = np.asarray(read_hdf5(labels, slice(None)), np.int64).reshape(-1)
        if not np.isin(values, (0, 1)).all():
            raise RejectedImageError("y has other labels than 0 and 1")
        return values


def image_sha1s(path: str) -> list[str]:
    """The SHA-1, in hex, of the pixels of each image in `x`; Kaggle uses it as the image's id."""
    with open_hdf5(path) as file:
        return [
            hashlib.sha1(row, usedforsecurity=False).hexdigest()
            for block in _row_blocks(hdf5_dataset(file, "x"))
            for row in block
        ]


def flatten_images(path: str) -> None:
    """Copy the images of an HDF5 file to a file beside it if its chunks have several rows.

    Each chunk is decompressed once. `read_rows` reads the copy instead of the HDF5 file.

    Raises:
        RejectedImageError: If the file is damaged.
        OSError: If the copy cannot be written.
    """
    with open_hdf5(path) as file:
        images = hdf5_dataset(file, "x")
        if images.chunks is None or images.chunks[0] == 1:
            return
        header = {"descr": "|u1", "fortran_order": False, "shape": images.shape}
        with Path(path + FLAT_SUFFIX).open("wb") as flat:
            np.lib.format.write_array_header_1_0(flat, header)
            for block in _row_blocks(images):
                flat.write(block.tobytes())


def _row_blocks(images: h5py.Dataset) -> Iterator[NDArray[np.uint8]]:
    """Iterate over the rows in blocks that end where a chunk ends.

    Raises:
        RejectedImageError: If a chunk has too many rows, or is damaged.
    """
    row_bytes = math.prod(images.shape[1:]) * images.dtype.itemsize
    chunk_rows = 1 if images.chunks is None else min(images.chunks[0], images.shape[0])
    if chunk_rows * row_bytes > MAX_BLOCK_BYTES:
        raise RejectedImageError(f"x has chunks of {chunk_rows:,} rows; write it with fewer")
    block_rows = chunk_rows * max(1, ROWS_AT_ONCE // chunk_rows)
    for start in range(0, images.shape[0], block_rows):
        yield read_hdf5(images, slice(start, start + block_rows))


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
    with ExitStack() as stack:
        images: dict[str, h5py.Dataset | NDArray[np.uint8]] = {}
        for position, file in enumerate(files):
            name, _, row = file.rpartition(ROW_SEPARATOR)
            try:
                if name not in images:
                    images[name] = _images(folder.path(name), stack)
                pixels = read_hdf5(images[name], int(row))
            except RejectedImageError as error:
                chunk.rejected.append((position, str(error)))
                continue
            patches[len(chunk.decoded)], resize_mode = resize(Image.fromarray(pixels), size)
            chunk.decoded.append(position)
            chunk.resize_modes.append(resize_mode)
    chunk.hashes = patch_hashes(patches[: len(chunk.decoded)])
    return chunk


def _images(path: str, stack: ExitStack) -> h5py.Dataset | NDArray[np.uint8]:
    """The images of an HDF5 file, or of the copy that `flatten_images` has written."""
    flat = Path(path + FLAT_SUFFIX)
    if flat.is_file():
        images: NDArray[np.uint8] = np.load(flat, mmap_mode="r")
        return images
    return hdf5_dataset(stack.enter_context(open_hdf5(path)), "x")


def open_hdf5(path: str) -> h5py.File:
    """Open an HDF5 file; RejectedImageError if it is damaged, or no regular file."""
    try:
        open_regular(path).close()  # HDF5 would wait for the writer of a pipe
        return h5py.File(path, "r")
    except DataError:
        raise RejectedImageError("a pipe or a device") from None
    except OSError as error:
        reason = "truncated" if "truncat" in str(error) else "damaged, or no HDF5 file"
        raise RejectedImageError(reason) from None


def hdf5_dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """Return the dataset `name`; RejectedImageError if it is not completely in this very file."""
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
        if any(map(gt, (dataset.chunks or ())[1:], dataset.shape[1:])):
            raise RejectedImageError(f"{name} has chunks that are larger than its images")
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


def read_hdf5(dataset: h5py.Dataset | NDArray[Any], rows: Any) -> NDArray[Any]:
    """Read rows of a dataset; RejectedImageError if they are damaged."""
    try:
        return np.asarray(dataset[rows])
    except (OSError, RuntimeError, ValueError, IndexError, TypeError):
        raise RejectedImageError("damaged") from None
