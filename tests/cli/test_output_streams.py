"""Standard output reaches its reader whole, whatever the mode of the descriptor is."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from raysearch.cli.output_streams import OutputFile

# More than a pipe holds.
CONTENT = bytes(range(256)) * 4096


@pytest.fixture
def pipe() -> Iterator[tuple[int, OutputFile]]:
    """The reading end of a pipe, and its other end, which does not block."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    file = OutputFile(writer, "w", closefd=True)
    yield reader, file
    file.close()
    os.close(reader)


def test_a_full_pipe_that_does_not_block_loses_nothing(pipe: tuple[int, OutputFile]) -> None:
    reader, file = pipe
    read = bytearray()

    def read_all() -> None:
        while len(read) < len(CONTENT) and (part := os.read(reader, 4096)):
            read.extend(part)

    rest = memoryview(CONTENT)
    rest = rest[file.write(rest) :]
    assert rest.nbytes  # the pipe is full, and nobody reads yet
    thread = threading.Thread(target=read_all)
    threading.Timer(0.2, thread.start).start()
    while rest.nbytes:
        rest = rest[file.write(rest) :]
    thread.join(10)
    assert bytes(read) == CONTENT
    assert file.error is None


def test_a_full_pipe_without_a_reader_drops_the_rest(pipe: tuple[int, OutputFile]) -> None:
    reader, file = pipe
    assert 0 < file.write(CONTENT) < len(CONTENT)
    devnull = os.open(os.devnull, os.O_RDONLY)
    threading.Timer(0.2, os.dup2, (devnull, reader)).start()  # closes the only reader
    assert file.write(CONTENT) == len(CONTENT)
    assert file.error is None
    os.close(devnull)
