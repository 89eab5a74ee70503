"""Standard output and standard error that a lost terminal, a closed pipe or a full disk cannot end.

A study must not end because nobody reads its table. Therefore a write to one of the two streams
never raises an error. What cannot be written is dropped, and `main` reports it at the end.
"""

from __future__ import annotations

import errno
import io
import os
import select
import stat
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

# Nobody reads any more: the terminal is gone, or the reader of the pipe has ended, as `head` does.
NO_READER = (errno.EIO, errno.EPIPE, errno.ENXIO)
STANDARD_STREAMS = (0, 1, 2)


class OutputFile(io.FileIO):
    """A descriptor for writing that drops what cannot be written.

    It waits for a pipe or a terminal that is full, also if another process has made it
    non-blocking: processes that share a terminal share this setting.

    Attributes:
        error: The first error of a stream that somebody reads, such as a file on a full disk.
    """

    error: OSError | None = None

    def write(self, data: ReadableBuffer, /) -> int:
        """Write `data`; return its size also if nothing could be written."""
        content = memoryview(data)
        try:
            # The result has no value if a non-blocking descriptor accepts nothing.
            while (written := super().write(content)) is None:
                self._wait_until_writable()
        except OSError as error:
            if error.errno not in NO_READER or stat.S_ISREG(os.fstat(self.fileno()).st_mode):
                self.error = self.error or error
            return content.nbytes
        return written

    def _wait_until_writable(self) -> None:
        poll = select.poll()
        poll.register(self.fileno(), select.POLLOUT)
        poll.poll()


def protect_output() -> OutputFile:
    """Replace `sys.stdout` and `sys.stderr` by streams that raise no error; return the first.

    A standard stream that the caller closed leads to `/dev/null`: another file would get its number
    otherwise, and the messages of libraries would be written into that file.
    """
    for descriptor in STANDARD_STREAMS:
        _open_if_closed(descriptor)
    sys.stdout, output = _protected(sys.stdout, 1)
    sys.stderr, _errors = _protected(sys.stderr, 2)
    return output


def _open_if_closed(descriptor: int) -> None:
    try:
        os.fstat(descriptor)
    except OSError:
        opened = os.open(os.devnull, os.O_RDWR)
        if opened != descriptor:
            os.dup2(opened, descriptor)
            os.close(opened)


def _protected(stream: TextIO | None, descriptor: int) -> tuple[TextIO, OutputFile]:
    if stream is not None:
        stream.flush()
    file = OutputFile(descriptor, "w", closefd=False)
    protected = io.TextIOWrapper(
        io.BufferedWriter(file),
        encoding=getattr(stream, "encoding", None),
        errors=getattr(stream, "errors", None),
        line_buffering=getattr(stream, "line_buffering", False),
        write_through=getattr(stream, "write_through", False),
    )
    return protected, file
