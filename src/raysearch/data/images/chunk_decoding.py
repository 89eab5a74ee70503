"""Decodes many image files into shared memory, and accounts for each.

The decoding worker processes import this module, so it does not import Arrow, which is slow.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from raysearch.data.files import Folder, regular_descriptor
from raysearch.data.images.decoding import (
    RejectedImageError,
    Size,
    decode_image,
    format_of,
    image_size,
    no_warnings,
    resize,
)
from raysearch.data.images.shared_memory import Slot
from raysearch.data.synthetic import synthesize_patches
from raysearch.errors import DataError, StorageError

READ_BYTES = 2**20
# More than an image of MAX_PIXELS takes without compression.
MAX_BYTES = 256 * 2**20


@dataclass
class Chunk:
    """The result of decoding some files; the pixels are in a slot, one patch after another.

    Attributes:
        decoded: The positions of the decoded files among the given files.
        resize_modes: How each decoded image was resized.
        hashes: The SHA-256 of each patch, 32 bytes each.
        rejected: (position, reason) of each rejected file.
        image_changes: What else was changed in the decoded files, and in how many.
        broken: Why the slide of these tiles cannot be used; empty if it can, or for other files.
    """

    decoded: list[int] = field(default_factory=list)
    resize_modes: list[str] = field(default_factory=list)
    hashes: bytes = b""
    rejected: list[tuple[int, str]] = field(default_factory=list)
    image_changes: Counter[str] = field(default_factory=Counter)
    broken: str = ""


def decode_files(
    folder: Folder, files: Sequence[str], size: Size, slot: Slot, depth: int | None = None
) -> Chunk:
    """Decode image files into `slot`.

    Args:
        folder: The folder of the files.
        files: Their paths in `folder`.
        size: (width, height) of the result.
        slot: Where the pixels are written.
        depth: See `decode`.
    """
    chunk = Chunk()
    patches = slot.bytes().reshape(-1, size[1], size[0], 3)
    with no_warnings():  # once for all files: for each, it would take a tenth of the time
        for position, file in enumerate(files):
            try:
                image = decode_image(_read(folder, file), file, size, depth)
            except RejectedImageError as error:
                chunk.rejected.append((position, str(error)))
            except OSError as error:
                chunk.rejected.append((position, f"cannot be read: {error.strerror or error}"))
            else:
                patches[len(chunk.decoded)] = image.pixels
                chunk.decoded.append(position)
                chunk.resize_modes.append(image.resize_mode)
                chunk.image_changes.update(image.changes)
    chunk.hashes = patch_hashes(patches[: len(chunk.decoded)])
    return chunk


def synthesize_files(
    source: str, patches: Sequence[tuple[int, int, int]], size: Size, slot: Slot
) -> Chunk:
    """Generate patches of a synthetic source into `slot`.

    Args:
        source: The synthetic source, `PATIENTS:PATCHES:SEED`.
        patches: (number, label, patient) of each patch.
        size: (width, height) of the result.
        slot: Where the pixels are written.
    """
    numbers, labels, patients = np.array(patches, np.int64).T
    pixels = slot.bytes().reshape(-1, size[1], size[0], 3)[: len(patches)]
    resize_modes = []
    for position, patch in enumerate(synthesize_patches(source, numbers, labels, patients)):
        pixels[position], resize_mode = resize(Image.fromarray(patch), size)
        resize_modes.append(resize_mode)
    return Chunk(list(range(len(patches))), resize_modes, patch_hashes(pixels))


def image_sizes(folder: Folder, files: Sequence[str], depth: int | None = None) -> list[Size]:
    """The sizes of the images `files`, without those that cannot be used; `depth`: see `decode`."""
    sizes = []
    for file in files:
        try:
            sizes.append(image_size(_read(folder, file), file, depth))
        except (RejectedImageError, OSError):
            continue
    return sizes


def patch_hashes(patches: NDArray[np.uint8]) -> bytes:
    """The SHA-256 of each of the patches, shape (N, H, W, 3), concatenated."""
    return b"".join(hashlib.sha256(patch).digest() for patch in patches)


def _read(folder: Folder, file: str) -> bytes:
    """Read `file`; RejectedImageError if its name or size is not that of a patch."""
    format_of(file)
    try:
        if not folder.is_local:
            return folder.read(file, MAX_BYTES)
        # Reading the descriptor takes half the time of fsspec.
        descriptor = regular_descriptor(folder.path(file))
    except StorageError:
        raise
    except DataError as error:
        raise RejectedImageError(str(error).partition(": ")[2]) from None
    try:
        blocks = []
        while block := os.read(descriptor, READ_BYTES):
            blocks.append(block)
            if len(blocks) > MAX_BYTES // READ_BYTES:
                raise RejectedImageError(f"larger than {MAX_BYTES // 2**20} MB")
        return blocks[0] if len(blocks) == 1 else b"".join(blocks)
    finally:
        os.close(descriptor)
