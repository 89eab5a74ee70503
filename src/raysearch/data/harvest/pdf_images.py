"""Reads the images of a PDF in an isolated child process with limits on time and memory."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from raysearch.data.harvest.pdf_messages import (
    ImageHeader,
    ReaderLimits,
    ReaderMessage,
    decode_message,
)

READER_MODULE = "raysearch.data.harvest.pdf_reader"
MAX_LINE_BYTES = 2048
CHUNK_BYTES = 2**20
# The only environment variables of the child process, so that it gets no key and no password.
ENVIRONMENT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "HOME", "LANG", "LC_ALL", "VIRTUAL_ENV")


class RejectedPdfError(Exception):
    """A PDF cannot be used; the message is the reason in a few words."""


@dataclass(frozen=True)
class EmbeddedImage:
    """An image of a PDF.

    Attributes:
        page: Page number from 1.
        index: Number of the image on its page, from 1.
        width: Width in pixels.
        height: Height in pixels.
        pixels: RGB, uint8, shape (height, width, 3); None if the image could not be decoded.
        error: Reason why there are no pixels.
    """

    page: int
    index: int
    width: int
    height: int
    pixels: NDArray[np.uint8] | None
    error: str = ""


def read_pdf_images(path: Path, limits: ReaderLimits) -> Iterator[EmbeddedImage]:
    """Iterate over the embedded images of a PDF, page by page.

    Raises:
        RejectedPdfError: If the file is damaged, encrypted or above a limit, possibly after some
            images, which must not be used then.
    """
    with _reader_process(path, limits) as reader:
        try:
            while isinstance(message := reader.read_message(), ImageHeader):
                yield reader.read_image(message)
        except ValueError:  # the reader process may be under control of a malicious PDF
            raise RejectedPdfError("damaged: its reader process sent invalid data") from None
        if message.rejection:
            raise RejectedPdfError(message.rejection)


@contextmanager
def _reader_process(path: Path, limits: ReaderLimits) -> Iterator[_PdfReader]:
    process = subprocess.Popen(  # noqa: S603 no shell, and a fixed command
        [sys.executable, "-P", "-m", READER_MODULE, str(path), limits.encode()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
        start_new_session=True,  # Ctrl-C interrupts the parent process only
    )
    try:
        yield _PdfReader(process, limits)
    finally:
        process.kill()
        process.communicate()


class _PdfReader:
    """Receives the messages of the reader process, and counts only the time it waits for them."""

    def __init__(self, process: subprocess.Popen[bytes], limits: ReaderLimits) -> None:
        if process.stdout is None:
            raise ValueError("the output of the reader process is not a pipe")
        self._process, self._limits, self._pipe = process, limits, process.stdout.fileno()
        self._remaining_s = float(limits.timeout_s)
        self._buffer = b""

    def read_message(self) -> ReaderMessage:
        """Read the next message.

        Raises:
            RejectedPdfError: If the reader process ended.
            ValueError: If it sent something else.
        """
        while b"\n" not in self._buffer:
            chunk = self._read_chunk(MAX_LINE_BYTES)
            self._buffer += chunk
            if not chunk or len(self._buffer) > 2 * MAX_LINE_BYTES:
                raise RejectedPdfError(self._exit_reason())
        line, _, self._buffer = self._buffer.partition(b"\n")
        return decode_message(line)

    def read_image(self, header: ImageHeader) -> EmbeddedImage:
        """Read the pixels that follow a header.

        Raises:
            RejectedPdfError: If the reader process ended.
            ValueError: If the header announces too many pixels.
        """
        page, index, width, height = header.page, header.index, header.width, header.height
        if header.error:
            return EmbeddedImage(page, index, width, height, None, header.error)
        if not 0 < width * height <= self._limits.image_pixels:
            raise ValueError(f"{width}x{height}")
        pixels = np.empty(width * height * 3, np.uint8)
        view = pixels.data
        num_read = min(len(view), len(self._buffer))
        view[:num_read], self._buffer = self._buffer[:num_read], self._buffer[num_read:]
        while num_read < len(view):
            chunk = self._read_chunk(min(len(view) - num_read, CHUNK_BYTES))
            if not chunk:
                raise RejectedPdfError(self._exit_reason())
            view[num_read : num_read + len(chunk)] = chunk
            num_read += len(chunk)
        return EmbeddedImage(page, index, width, height, pixels.reshape(height, width, 3))

    def _read_chunk(self, max_bytes: int) -> bytes:
        """Wait for data and return up to `max_bytes`; empty if the reader process ended."""
        start_s = time.monotonic()
        ready, _, _ = select.select([self._pipe], [], [], max(0.0, self._remaining_s))
        self._remaining_s -= time.monotonic() - start_s
        if not ready:
            raise RejectedPdfError(self._timeout_reason())
        return os.read(self._pipe, max_bytes)

    def _timeout_reason(self) -> str:
        return f"takes longer than {self._limits.timeout_s} s to read"

    def _exit_reason(self) -> str:
        """Return why the reader process ended without a last message."""
        code = self._process.wait()
        if -code == signal.SIGXCPU:
            return self._timeout_reason()
        cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return (
            f"its reader process ended with {cause}: damaged, or needs more than"
            f" {self._limits.memory_mb:,} MB of memory"
        )
