"""The child process that reads one PDF, so that a bomb or a hang ends with it.

`python -m raysearch.data.harvest.pdf_reader FILE LIMITS`, the limits as JSON. On standard output:
for each image one line of JSON (page, index, width, height, error) and, without an error, width x
height x 3 bytes of RGB; at last `{"end": ""}`, or `{"end": reason}` if the file is rejected. It
imports little, starts in a fifth of a second, and cannot write a file.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Iterator
from typing import Any

import pypdfium2

from raysearch.data.harvest.settings import Limits

# Forms inside forms: figures of several panels are two or three deep.
DEPTH = 8
# Where readers look for the first and the last words of a PDF.
HEAD, TAIL = 1024, 4096
PASSWORD, NO_PDF = 4, 3  # FPDF_GetLastError


class RejectedFileError(Exception):
    """The file cannot be used; the message is the reason, in a few words."""


def main() -> None:
    """Read the file that the command line names, within its limits."""
    path, limits = sys.argv[1], Limits(**json.loads(sys.argv[2]))
    end = ""
    try:
        _limit(limits)
        for head, pixels in images(path, limits):
            _send(head, pixels)
    except RejectedFileError as error:
        end = str(error)
    except MemoryError:
        end = f"needs more than {limits.memory_mb:,} MB of memory"
    except BrokenPipeError:  # nobody listens any more
        os._exit(0)
    except Exception as error:
        end = f"cannot be read ({type(error).__name__})"
    _send({"end": end}, b"")


def _send(head: dict[str, Any], pixels: bytes) -> None:
    sys.stdout.buffer.write(json.dumps(head).encode() + b"\n")
    sys.stdout.buffer.write(pixels)
    sys.stdout.buffer.flush()


def _limit(limits: Limits) -> None:
    wanted = {
        resource.RLIMIT_AS: limits.memory_mb * 2**20,
        # The parent ends this process in time; should the parent be gone, its own clock does.
        resource.RLIMIT_CPU: limits.timeout_s + 5,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
    }
    for kind, most in wanted.items():
        hard = resource.getrlimit(kind)[1]
        value = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (value, value))


def images(path: str, limits: Limits) -> Iterator[tuple[dict[str, Any], bytes]]:
    """What is said of each image of the PDF at `path`, and its RGB bytes, page by page.

    RefusedFileError where the whole file cannot be used.
    """
    _check_ends(path, limits)
    document = _opened(path)
    if len(document) > limits.pages:
        raise RejectedFileError(f"{len(document):,} pages, more than {limits.pages:,}")
    count = 0
    for number in range(1, len(document) + 1):
        for index, image in enumerate(_on_page(document, number), start=1):
            count += 1
            if count > limits.images:
                raise RejectedFileError(f"more than {limits.images:,} images")
            (width, height), error, pixels = _decoded(image, limits)
            head = {"page": number, "index": index, "width": width, "height": height}
            yield {**head, "error": error}, pixels


def _check_ends(path: str, limits: Limits) -> None:
    """PDFium repairs what is cut off; half a paper is rejected here."""
    try:
        size = os.stat(path).st_size  # noqa: PTH116 pathlib is not imported here
        with open(path, "rb") as file:  # noqa: PTH123
            head = file.read(HEAD)
            file.seek(max(0, size - TAIL))
            tail = file.read(TAIL)
    except OSError as error:
        raise RejectedFileError(f"cannot be read: {error.strerror or error}") from None
    if size > limits.file_mb * 10**6:
        raise RejectedFileError(f"larger than {limits.file_mb:,} MB")
    if not size:
        raise RejectedFileError("empty file")
    if b"%PDF-" not in head:
        raise RejectedFileError("not a PDF")
    if b"%%EOF" not in tail:
        raise RejectedFileError("truncated")


def _opened(path: str) -> pypdfium2.PdfDocument:
    try:
        return pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        code = getattr(error, "err_code", None)
        if code == PASSWORD:
            raise RejectedFileError("encrypted, and wants a password") from None
        raise RejectedFileError(
            "damaged" if code == NO_PDF else f"cannot be read ({code})"
        ) from None


def _on_page(document: pypdfium2.PdfDocument, number: int) -> Iterator[pypdfium2.PdfImage]:
    try:
        page = document[number - 1]
    except pypdfium2.PdfiumError:
        raise RejectedFileError(f"damaged: page {number} cannot be read") from None
    yield from page.get_objects(filter=[pypdfium2.raw.FPDF_PAGEOBJ_IMAGE], max_depth=DEPTH)
    page.close()


def _decoded(image: pypdfium2.PdfImage, limits: Limits) -> tuple[tuple[int, int], str, bytes]:
    """(width, height), what keeps it from being decoded, and its pixels as they are in the file.

    Neither its mask nor how it lies on the page is applied: both are of the layout.
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
