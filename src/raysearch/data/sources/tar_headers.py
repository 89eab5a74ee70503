"""Reads tar archives with a limit on the size of their headers, which tarfile keeps in memory."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import IO, Any, Self, cast

# Aliases: the parameter `tarfile` of `fromtarfile` hides the module.
END_OF_ARCHIVE = tarfile.EOFHeaderError  # type: ignore[attr-defined]
HEADER_ERROR, READ_ERROR = tarfile.HeaderError, tarfile.ReadError
# The headers of an archive may take so many bytes, and so many more for each member.
HEADER_BYTES, HEADER_BYTES_PER_MEMBER = 2**24, 2**13
# An archive ends with zeros, up to a multiple of its record size.
MAX_PADDING_BYTES = 2**26
READ_BYTES = 2**20
MAGIC_BYTES = 6


@contextmanager
def open_tar(source: str) -> Iterator[TarReader]:
    """Open the tar archive `source`, compressed with gzip, bzip2, xz or not at all."""
    with open(source, "rb") as file, closing(_decompressed(file)) as content:  # noqa: PTH123
        yield TarReader(content)


def _decompressed(file: IO[bytes]) -> IO[bytes]:
    magic = file.read(MAGIC_BYTES)
    file.seek(0)
    if magic.startswith(b"\x1f\x8b"):
        return cast("IO[bytes]", gzip.GzipFile(fileobj=file))
    if magic.startswith(b"BZh"):
        return bz2.BZ2File(file)
    if magic == b"\xfd7zXZ\0":
        return lzma.LZMAFile(file)
    return file


class TarReader:
    """The members of a tar archive, in their order.

    Args:
        content: The decompressed archive.
    """

    def __init__(self, content: IO[bytes]) -> None:
        self._file = _LimitedFile(content)
        self._archive = tarfile.TarFile(
            fileobj=cast("IO[bytes]", self._file),
            errors="surrogateescape",
            tarinfo=_StrictTarInfo,
        )

    def __iter__(self) -> Iterator[tarfile.TarInfo]:
        """Iterate over the members; the content of one is readable until the next is taken."""
        archive: Any = self._archive
        while (entry := archive.next()) is not None:
            archive.members.clear()  # tarfile would keep all members in memory
            self._file.is_in_header = False
            yield entry
            self._file.is_in_header = True
            self._file.header_bytes += HEADER_BYTES_PER_MEMBER
        self._read_padding()

    def content(self, entry: tarfile.TarInfo) -> IO[bytes] | None:
        """The content of the regular file `entry`."""
        return self._archive.extractfile(entry)

    def _read_padding(self) -> None:
        """Read to the end of the file, where the decompressor verifies its checksum."""
        self._file.is_in_header = False
        num_bytes = 0
        while block := self._file.read(READ_BYTES):
            num_bytes += len(block)
            if num_bytes > MAX_PADDING_BYTES:
                raise READ_ERROR(f"more than {MAX_PADDING_BYTES:,} bytes after its last member")


class _LimitedFile:
    """A file that raises an error if headers of more than `header_bytes` are read from it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.is_in_header = True
        self.header_bytes = HEADER_BYTES

    def read(self, size: int) -> bytes:
        """Read up to `size` bytes."""
        if self.is_in_header:
            self.header_bytes -= size
            if self.header_bytes < 0:
                raise READ_ERROR("its headers are larger than those of any archive of images")
        return self._file.read(size)

    def seek(self, position: int) -> int:
        """Go to a position, in bytes from the start."""
        return self._file.seek(position)

    def tell(self) -> int:
        """The position, in bytes from the start."""
        return self._file.tell()

    def seekable(self) -> bool:
        """Whether `seek` is possible."""
        return True


class _StrictTarInfo(tarfile.TarInfo):
    """Raises an error for a damaged header, which tarfile treats as the end of the archive."""

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile)
        except END_OF_ARCHIVE:
            raise
        except HEADER_ERROR as error:
            raise READ_ERROR(f"damaged header: {error}") from None
