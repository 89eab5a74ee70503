"""Decodes image files to the pixels of patches.

The decoding worker processes import this module, so it does not import Arrow, which is slow.
"""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from posixpath import splitext

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from raysearch.data.files import Folder
from raysearch.data.images.png import decode_plain_png
from raysearch.data.images.shared_memory import Slot
from raysearch.data.synthetic import synthesize_patches

# Larger than any patch, and small enough to decode on every core at once.
MAX_PIXELS = 50_000_000
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".tiff": "TIFF"}
NO_IMAGE = f"not one of {', '.join(FORMATS)}"
READ_BYTES = 2**20
# More than MAX_PIXELS take without compression.
MAX_BYTES = 256 * 2**20
WHITE = (255, 255, 255)
# The first letters of Pillow's modes of 16-bit, 32-bit and floating-point images.
DEEP_MODES = ("I", "F")
Size = tuple[int, int]


class RejectedImageError(Exception):
    """An image that cannot be used; the message is the reason, in a few words."""


def image_size(content: bytes, file: str) -> Size:
    """Read the (width, height) of an image from its header.

    Args:
        content: The bytes of the file.
        file: Its name, whose suffix must match the format.

    Raises:
        RejectedImageError: If the image cannot be used.
    """
    with _no_warnings():
        return _open(content, file).size


def decode(content: bytes, file: str, size: Size) -> tuple[NDArray[np.uint8], str]:
    """Decode an image and resize it.

    Args:
        content: The bytes of the file.
        file: Its name, whose suffix must match the format.
        size: (width, height) of the result.

    Returns:
        The pixels, uint8, shape (height, width, 3), and the resize mode, see `resize`.

    Raises:
        RejectedImageError: If the image cannot be used.
    """
    with _no_warnings():
        return _decode(content, file, size)


@contextmanager
def _no_warnings() -> Iterator[None]:
    """Suppress Pillow's warnings about unusual metadata."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _decode(content: bytes, file: str, size: Size) -> tuple[NDArray[np.uint8], str]:
    if file.lower().endswith(".png"):
        pixels = decode_plain_png(content, *size)
        if pixels is not None:
            return pixels, "as is"
    image = _open(content, file)
    try:
        image.load()
        image = image if image.mode == "RGB" else image.convert("RGB")
    except (OSError, SyntaxError, ValueError, EOFError, MemoryError) as error:
        reason = "truncated" if "truncat" in str(error) else "damaged"
        raise RejectedImageError(reason) from None
    return resize(image, size)


def resize(image: Image.Image, size: Size) -> tuple[NDArray[np.uint8], str]:
    """Resize an image to `size`, keeping its aspect ratio.

    A larger image is downscaled by area averaging; what it does not cover is white.

    Args:
        image: An RGB image.
        size: (width, height) of the result.

    Returns:
        The pixels, uint8, shape (height, width, 3), and the resize mode: "as is", "scaled",
        "padded" or "scaled+padded".
    """
    if image.size == size:
        return np.asarray(image), "as is"
    modes = []
    if image.width > size[0] or image.height > size[1]:
        scale = min(size[0] / image.width, size[1] / image.height)
        scaled_size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(scaled_size, Image.Resampling.BOX)
        modes.append("scaled")
    if image.size != size:
        padded = Image.new("RGB", size, WHITE)
        padded.paste(image)
        image = padded
        modes.append("padded")
    return np.asarray(image), "+".join(modes)


def _open(content: bytes, file: str) -> Image.Image:
    expected_format = _format_of(file)
    if not content:
        raise RejectedImageError("empty file")
    try:
        image = Image.open(io.BytesIO(content))
    except Image.DecompressionBombError:
        raise RejectedImageError(f"more than {MAX_PIXELS:,} pixels") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError):
        raise RejectedImageError("not an image") from None
    if image.format != expected_format:
        raise RejectedImageError(f"{image.format} under the extension of {expected_format}")
    if image.width * image.height > MAX_PIXELS:
        raise RejectedImageError(f"more than {MAX_PIXELS:,} pixels")
    if image.mode.startswith(DEEP_MODES):
        # Pillow would clip the values at 255, and the patch would become white or black.
        raise RejectedImageError("more than 8 bits a channel")
    if min(image.size) < 1:
        raise RejectedImageError("no pixels")
    return image


def is_image(file: str) -> bool:
    """Whether the file's name has the suffix of an image format."""
    return splitext(file)[1].lower() in FORMATS


def _format_of(file: str) -> str:
    image_format = FORMATS.get(splitext(file)[1].lower())
    if image_format is None:
        raise RejectedImageError(NO_IMAGE)
    return image_format


@dataclass
class Chunk:
    """The result of decoding some files; the pixels are in a slot, one patch after another.

    Attributes:
        decoded: The positions of the decoded files among the given files.
        resize_modes: How each decoded image was resized.
        hashes: The SHA-256 of each patch, 32 bytes each.
        rejected: (position, reason) of each rejected file.
    """

    decoded: list[int] = field(default_factory=list)
    resize_modes: list[str] = field(default_factory=list)
    hashes: bytes = b""
    rejected: list[tuple[int, str]] = field(default_factory=list)


def decode_files(folder: Folder, files: Sequence[str], size: Size, slot: Slot) -> Chunk:
    """Decode the images `files` of `folder` to `size` (width, height) into `slot`."""
    chunk = Chunk()
    patches = slot.bytes().reshape(-1, size[1], size[0], 3)
    with _no_warnings():  # once for all files: for each, it would take a tenth of the time
        for position, file in enumerate(files):
            try:
                pixels, resize_mode = _decode(_read(folder, file), file, size)
            except RejectedImageError as error:
                chunk.rejected.append((position, str(error)))
            except OSError as error:
                chunk.rejected.append((position, f"cannot be read: {error.strerror or error}"))
            else:
                patches[len(chunk.decoded)] = pixels
                chunk.decoded.append(position)
                chunk.resize_modes.append(resize_mode)
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


def image_sizes(folder: Folder, files: Sequence[str]) -> list[Size]:
    """The sizes of the images `files`, without those that cannot be used."""
    sizes = []
    for file in files:
        try:
            sizes.append(image_size(_read(folder, file), file))
        except (RejectedImageError, OSError):
            continue
    return sizes


def patch_hashes(patches: NDArray[np.uint8]) -> bytes:
    """The SHA-256 of each of the patches, shape (N, H, W, 3), concatenated."""
    return b"".join(hashlib.sha256(patch).digest() for patch in patches)


def _read(folder: Folder, file: str) -> bytes:
    """Read `file`; RejectedImageError if its name or size is not that of a patch."""
    _format_of(file)
    if not folder.is_local:
        return folder.read(file)
    descriptor = os.open(folder.path(file), os.O_RDONLY)  # takes half the time of fsspec
    try:
        blocks = []
        while block := os.read(descriptor, READ_BYTES):
            blocks.append(block)
            if len(blocks) > MAX_BYTES // READ_BYTES:
                raise RejectedImageError(f"larger than {MAX_BYTES // 2**20} MB")
        return blocks[0] if len(blocks) == 1 else b"".join(blocks)
    finally:
        os.close(descriptor)
