"""The child process that reads one PDF, so that a crash or a decompression bomb stays isolated.

`python -m raysearch.data.harvest.pdf_reader FILE LIMITS`, with `ReaderLimits` as JSON. On standard
output it writes an `ImageHeader` for each image, followed by its pixels, and at the end an
`EndOfFile`. It imports few modules, starts in 0.2 seconds, and cannot write files.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterator

import pypdfium2

from raysearch.data.harvest.pdf_messages import (
    EndOfFile,
    ImageHeader,
    ReaderLimits,
    ReaderMessage,
    encode_message,
)

# Nested forms to search for images: figures of several panels have two or three levels.
MAX_FORM_DEPTH = 8
# Bytes at both ends of a file that contain the header and the end marker of a PDF.
HEADER_BYTES, TRAILER_BYTES = 1024, 4096
# Error codes of FPDF_GetLastError.
FORMAT_ERROR, PASSWORD_ERROR = 3, 4
# CPU seconds beyond the timeout, so that the parent process ends this one first.
CPU_MARGIN_S = 5


class RejectedFileError(Exception):
    """The file cannot be used; the message is the reason in a few words."""


def main() -> None:
    """Read the file that the command line names, within its limits."""
    path, limits = sys.argv[1], ReaderLimits.decode(sys.argv[2])
    rejection = ""
    try:
        _apply_resource_limits(limits)
        for header, pixels in read_images(path, limits):
            _send(header, pixels)
    except RejectedFileError as error:
        rejection = str(error)
    except MemoryError:
        rejection = f"needs more than {limits.memory_mb:,} MB of memory"
    except BrokenPipeError:  # the parent process ended
        os._exit(0)
    except Exception as error:
        rejection = f"cannot be read ({type(error).__name__})"
    _send(EndOfFile(rejection), b"")


def _send(message: ReaderMessage, pixels: bytes) -> None:
    sys.stdout.buffer.write(encode_message(message))
    sys.stdout.buffer.write(pixels)
    sys.stdout.buffer.flush()


def _apply_resource_limits(limits: ReaderLimits) -> None:
    values = {
        resource.RLIMIT_AS: limits.memory_mb * 2**20,
        # The parent process enforces the timeout; this limit applies if the parent is gone.
        resource.RLIMIT_CPU: limits.timeout_s + CPU_MARGIN_S,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
    }
    for kind, value in values.items():
        hard_limit = resource.getrlimit(kind)[1]
        limit = value if hard_limit == resource.RLIM_INFINITY else min(value, hard_limit)
        resource.setrlimit(kind, (limit, limit))


def read_images(path: str, limits: ReaderLimits) -> Iterator[tuple[ImageHeader, bytes]]:
    """Iterate over the headers and RGB bytes of the images in a PDF, page by page.

    Raises:
        RejectedFileError: If the file cannot be used.
    """
    _check_file(path, limits)
    document = _open_document(path)
    if len(document) > limits.pages:
        raise RejectedFileError(f"{len(document):,} pages, more than {limits.pages:,}")
    num_images = 0
    for page in range(1, len(document) + 1):
        for index, image in enumerate(_images_on_page(document, page), start=1):
            num_images += 1
            if num_images > limits.images:
                raise RejectedFileError(f"more than {limits.images:,} images")
            (width, height), error, pixels = _decode(image, limits)
            yield ImageHeader(page, index, width, height, error), pixels


def _check_file(path: str, limits: ReaderLimits) -> None:
    """Reject files that are too large, or truncated: PDFium would read a part of them."""
    try:
        size_bytes = os.stat(path).st_size  # noqa: PTH116 pathlib is not imported here
        with open(path, "rb") as file:  # noqa: PTH123
            header = file.read(HEADER_BYTES)
            file.seek(max(0, size_bytes - TRAILER_BYTES))
            trailer = file.read(TRAILER_BYTES)
    except OSError as error:
        raise RejectedFileError(f"cannot be read: {error.strerror or error}") from None
    if size_bytes > limits.file_mb * 10**6:
        raise RejectedFileError(f"larger than {limits.file_mb:,} MB")
    if not size_bytes:
        raise RejectedFileError("empty file")
    if b"%PDF-" not in header:
        raise RejectedFileError("not a PDF")
    if b"%%EOF" not in trailer:
        raise RejectedFileError("truncated")


def _open_document(path: str) -> pypdfium2.PdfDocument:
    try:
        return pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        code = getattr(error, "err_code", None)
        if code == PASSWORD_ERROR:
            raise RejectedFileError("encrypted with a password") from None
        reason = "damaged" if code == FORMAT_ERROR else f"cannot be read ({code})"
        raise RejectedFileError(reason) from None


def _images_on_page(document: pypdfium2.PdfDocument, page: int) -> Iterator[pypdfium2.PdfImage]:
    try:
        loaded = document[page - 1]
    except pypdfium2.PdfiumError:
        raise RejectedFileError(f"damaged: page {page} cannot be read") from None
    image_type = pypdfium2.raw.FPDF_PAGEOBJ_IMAGE
    yield from loaded.get_objects(filter=[image_type], max_depth=MAX_FORM_DEPTH)
    loaded.close()


def _decode(image: pypdfium2.PdfImage, limits: ReaderLimits) -> tuple[tuple[int, int], str, bytes]:
    """Decode an image as it is stored, without the mask and the rotation of the page's layout.

    Returns:
        (width, height), the reason if it cannot be decoded, and its RGB bytes.
    """
    size = image.get_px_size()
    if not all(size):
        return size, "no pixels", b""
    if size[0] * size[1] > limits.image_pixels:
        return size, f"more than {limits.image_pixels:,} pixels", b""
    try:
        decoded = image.get_bitmap().to_pil().convert("RGB")
    except (pypdfium2.PdfiumError, ValueError, KeyError):
        return size, "damaged", b""
    return decoded.size, "", decoded.tobytes()


if __name__ == "__main__":
    main()
