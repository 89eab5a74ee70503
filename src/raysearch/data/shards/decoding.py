"""From image files to the pixels of patches, once.

What a worker process imports: no Arrow here, so that it starts fast.
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
from raysearch.data.shards.png import decode_plain
from raysearch.data.shards.shared_memory import Slot
from raysearch.data.synthetic import draw_patches

# Larger than any patch, and small enough to decode on every core at once.
MAX_PIXELS = 50_000_000
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".tiff": "TIFF"}
NO_IMAGE = f"not one of {', '.join(FORMATS)}"
READ_BYTES = 2**20
# More than so many pixels take uncompressed.
MAX_BYTES = 256 * 2**20
WHITE = (255, 255, 255)
# Pillow's names of 16-bit, 32-bit and floating-point grey.
DEEP = ("I", "F")
Size = tuple[int, int]


class RejectedImageError(Exception):
    """An image that cannot be used; the message is the reason, in a few words."""


def image_size(content: bytes, file: str) -> Size:
    """The (width, height) of an image by its header; RefusedImageError where it cannot be used."""
    with _quiet():
        return _opened(content, file).size


def decode(content: bytes, file: str, size: Size) -> tuple[NDArray[np.uint8], str]:
    """The pixels, uint8 (height, width, 3), of an image at `size` (width, height), and how it fits.

    A larger image is scaled by area, keeping its shape; a smaller one, or what is left beside a
    scaled one, is white. RefusedImageError, with the reason, for what is no usable image.
    """
    with _quiet():
        return _decoded(content, file, size)


@contextmanager
def _quiet() -> Iterator[None]:
    """Pillow warns of odd metadata; the pixels are what counts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _decoded(content: bytes, file: str, size: Size) -> tuple[NDArray[np.uint8], str]:
    if file.lower().endswith(".png"):
        plain = decode_plain(content, *size)
        if plain is not None:
            return plain, "as is"
    image = _opened(content, file)
    try:
        image.load()
        image = image if image.mode == "RGB" else image.convert("RGB")
    except (OSError, SyntaxError, ValueError, EOFError, MemoryError) as error:
        reason = "truncated" if "truncat" in str(error) else "damaged"
        raise RejectedImageError(reason) from None
    return fit(image, size)


def fit(image: Image.Image, size: Size) -> tuple[NDArray[np.uint8], str]:
    """`image` at `size` (width, height) as uint8 (height, width, 3), and how it came to that."""
    if image.size == size:
        return np.asarray(image), "as is"
    ways = []
    if image.width > size[0] or image.height > size[1]:
        fraction = min(size[0] / image.width, size[1] / image.height)
        smaller = (max(1, round(image.width * fraction)), max(1, round(image.height * fraction)))
        image = image.resize(smaller, Image.Resampling.BOX)
        ways.append("scaled")
    if image.size != size:
        padded = Image.new("RGB", size, WHITE)
        padded.paste(image)
        image = padded
        ways.append("padded")
    return np.asarray(image), "+".join(ways)


def _opened(content: bytes, file: str) -> Image.Image:
    wanted = _format_of(file)
    if not content:
        raise RejectedImageError("empty file")
    try:
        image = Image.open(io.BytesIO(content))
    except Image.DecompressionBombError:
        raise RejectedImageError(f"more than {MAX_PIXELS:,} pixels") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError):
        raise RejectedImageError("not an image") from None
    if image.format != wanted:
        raise RejectedImageError(f"{image.format} under the extension of {wanted}")
    if image.width * image.height > MAX_PIXELS:
        raise RejectedImageError(f"more than {MAX_PIXELS:,} pixels")
    if image.mode.startswith(DEEP):
        # Pillow would cut these values off at 255, and the patch come out white or black.
        raise RejectedImageError("more than 8 bits a channel")
    if min(image.size) < 1:
        raise RejectedImageError("no pixels")
    return image


def is_image(file: str) -> bool:
    """Whether the name is one of an image."""
    return splitext(file)[1].lower() in FORMATS


def _format_of(file: str) -> str:
    found = FORMATS.get(splitext(file)[1].lower())
    if found is None:
        raise RejectedImageError(NO_IMAGE)
    return found


@dataclass
class Chunk:
    """What became of some files, whose pixels stand one after another in a slot.

    `kept` are the places of the patches among the files asked for, `fitted` how each fits, `hashes`
    32 bytes a patch; `rejected` are (place, reason).
    """

    kept: list[int] = field(default_factory=list)
    fitted: list[str] = field(default_factory=list)
    hashes: bytes = b""
    rejected: list[tuple[int, str]] = field(default_factory=list)


def decode_files(folder: Folder, files: Sequence[str], size: Size, slot: Slot) -> Chunk:
    """Put the images `files` of `folder` at `size` (width, height) into `slot`, in their order."""
    chunk = Chunk()
    patches = slot.bytes().reshape(-1, size[1], size[0], 3)
    with _quiet():  # once for all of them: for each it would cost a tenth of the decoding
        for place, file in enumerate(files):
            try:
                pixels, fitted = _decoded(_content(folder, file), file, size)
            except RejectedImageError as error:
                chunk.rejected.append((place, str(error)))
            except OSError as error:
                chunk.rejected.append((place, f"cannot be read: {error.strerror or error}"))
            else:
                patches[len(chunk.kept)] = pixels
                chunk.kept.append(place)
                chunk.fitted.append(fitted)
    chunk.hashes = hashes_of(patches[: len(chunk.kept)])
    return chunk


def draw_files(source: str, drawn: Sequence[tuple[int, int, int]], size: Size, slot: Slot) -> Chunk:
    """Draw patches of the synthetic `source`, each by its (number, label, patient), into `slot`."""
    numbers, labels, patients = np.array(drawn, np.int64).T
    patches = slot.bytes().reshape(-1, size[1], size[0], 3)[: len(drawn)]
    fitted = []
    for place, patch in enumerate(draw_patches(source, numbers, labels, patients)):
        patches[place], how = fit(Image.fromarray(patch), size)
        fitted.append(how)
    return Chunk(list(range(len(drawn))), fitted, hashes_of(patches))


def sizes_of(folder: Folder, files: Sequence[str]) -> list[Size]:
    """The sizes of those `files` that say one; the others are rejected when they are decoded."""
    sizes = []
    for file in files:
        try:
            sizes.append(image_size(_content(folder, file), file))
        except (RejectedImageError, OSError):
            continue
    return sizes


def hashes_of(patches: NDArray[np.uint8]) -> bytes:
    """The SHA-256 of each of the patches (N, H, W, 3), one after another."""
    return b"".join(hashlib.sha256(patch).digest() for patch in patches)


def _content(folder: Folder, file: str) -> bytes:
    """The bytes of `file`; RefusedImageError, unread, for what cannot be the image of a patch."""
    _format_of(file)
    if not folder.is_local:
        return folder.read(file)
    opened = os.open(folder.path(file), os.O_RDONLY)  # half of what fsspec's way costs
    try:
        parts = []
        while piece := os.read(opened, READ_BYTES):
            parts.append(piece)
            if len(parts) > MAX_BYTES // READ_BYTES:
                raise RejectedImageError(f"larger than {MAX_BYTES // 2**20} MB")
        return parts[0] if len(parts) == 1 else b"".join(parts)
    finally:
        os.close(opened)
