"""The images of a PDF, read by a child process that has little time, memory and trust."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysearch.data.harvest.settings import Limits

READER = "raysearch.data.harvest.pdf_reader"
LINE_BYTES = 1024
# All that the child needs of the environment: it gets no key, and no password.
NAMES = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "HOME", "LANG", "LC_ALL", "VIRTUAL_ENV")


class RejectedPdfError(Exception):
    """A PDF that cannot be used; the message is the reason, in a few words."""


@dataclass(frozen=True)
class Raster:
    """An embedded image: `page` and `index` on it count from 1.

    `pixels` are uint8 (height, width, 3), RGB; None where `error` says why there are none.
    """

    page: int
    index: int
    width: int
    height: int
    pixels: NDArray[np.uint8] | None
    error: str = ""


def rasters(path: Path, limits: Limits) -> Iterator[Raster]:
    """Every embedded image of the PDF at `path`, page by page.

    RefusedPdfError, possibly after some images, where the file is damaged, encrypted, or goes
    beyond `limits`; what came before is then not to be used.
    """
    with _child(path, limits) as child:
        try:
            while "end" not in (head := child.head()):
                yield child.raster(head)
        except (ValueError, KeyError, TypeError):  # a child that a PDF has taken over
            raise RejectedPdfError("its reader does not make sense: damaged") from None
        if head["end"]:
            raise RejectedPdfError(str(head["end"])[:LINE_BYTES])


@contextmanager
def _child(path: Path, limits: Limits) -> Iterator[_Child]:
    process = subprocess.Popen(  # noqa: S603 no shell, and our own words
        [sys.executable, "-P", "-m", READER, str(path), json.dumps(asdict(limits))],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={name: os.environ[name] for name in NAMES if name in os.environ},
        start_new_session=True,  # Ctrl-C is answered here, and by nobody else
    )
    try:
        yield _Child(process, limits)
    finally:
        process.kill()
        process.communicate()


class _Child:
    """Reads what the child says; the time that it takes to say it is counted, and no other."""

    def __init__(self, process: subprocess.Popen[bytes], limits: Limits) -> None:
        if process.stdout is None:
            raise ValueError("the child's output is not piped")
        self._process, self._limits, self._pipe = process, limits, process.stdout.fileno()
        self._left_s = float(limits.timeout_s)
        self._ahead = b""

    def head(self) -> dict[str, Any]:
        """The next line of JSON."""
        while b"\n" not in self._ahead:
            more = self._some(LINE_BYTES)
            self._ahead += more
            if not more or len(self._ahead) > 2 * LINE_BYTES:
                raise RejectedPdfError(self._why())
        line, _, self._ahead = self._ahead.partition(b"\n")
        head: dict[str, Any] = json.loads(line)
        return head

    def raster(self, head: dict[str, Any]) -> Raster:
        """The image that `head` announced."""
        width, height = int(head["width"]), int(head["height"])
        place = (int(head["page"]), int(head["index"]), width, height)
        if head["error"]:
            return Raster(*place, None, str(head["error"]))
        if not 0 < width * height <= self._limits.image_pixels:
            raise ValueError(f"{width}x{height}")
        pixels = np.empty(width * height * 3, np.uint8)
        view = pixels.data
        taken = min(len(view), len(self._ahead))
        view[:taken], self._ahead = self._ahead[:taken], self._ahead[taken:]
        while taken < len(view):
            some = self._some(min(len(view) - taken, 2**20))
            if not some:
                raise RejectedPdfError(self._why())
            view[taken : taken + len(some)] = some
            taken += len(some)
        return Raster(*place, pixels.reshape(height, width, 3))

    def _some(self, most: int) -> bytes:
        """Up to `most` bytes as soon as there are any; none where the child has ended."""
        since = time.monotonic()
        ready, _, _ = select.select([self._pipe], [], [], max(0.0, self._left_s))
        self._left_s -= time.monotonic() - since
        if not ready:
            raise RejectedPdfError(f"takes longer than {self._limits.timeout_s} s to read")
        return os.read(self._pipe, most)

    def _why(self) -> str:
        """Why it ended without a word."""
        code = self._process.wait()
        if -code == signal.SIGXCPU:
            return f"takes longer than {self._limits.timeout_s} s to read"
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return (
            f"its reader was ended by {how}: damaged, or needs more than"
            f" {self._limits.memory_mb:,} MB of memory"
        )
