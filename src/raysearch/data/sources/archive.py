"""An archive as a source: unpacked beside the shards, and gone when they are written."""

from __future__ import annotations

import errno
import lzma
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

from raysearch.data.sources.listing import Rejected
from raysearch.errors import DataError

TAR = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
ZIP = (".zip",)
# Images are compressed already: what unpacks to far more than its size is no archive of them.
MAX_TIMES, FREE_BYTES = 200, 2**30
PIECE = 2**20
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
END = tarfile.EOFHeaderError  # type: ignore[attr-defined]
HEADER, SPOILT = tarfile.HeaderError, tarfile.ReadError
DAMAGED = (
    OSError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
    NotImplementedError,
)


@dataclass(frozen=True)
class _Member:
    name: str
    size: int
    kind: str
    open: AbstractContextManager[IO[bytes]]


def is_archive(source: str) -> bool:
    """Whether `source` is a file named as an archive."""
    return source.lower().endswith((*TAR, *ZIP)) and Path(source).is_file()


def unpack(source: str, scratch: Path) -> tuple[str, list[Rejected]]:
    """The folder in `scratch` with what the archive holds, and what of it was left out.

    DataError for an archive that is damaged, or unpacks to more than there is room for.
    """
    target = scratch / "archive"
    rejected: list[Rejected] = []
    try:
        room = min(
            shutil.disk_usage(scratch).free,
            max(FREE_BYTES, MAX_TIMES * Path(source).stat().st_size),
        )
        for member in _members(source):
            reason = _error(member)
            if reason:
                rejected.append(Rejected(member.name, reason))
                continue
            room -= _write(member, target / member.name, room)
    except DAMAGED as error:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise
        raise DataError(f"{source}: damaged ({error}); fetch it again") from None
    tops = list(target.iterdir()) if target.is_dir() else []
    inner = tops[0] if len(tops) == 1 and tops[0].is_dir() else target
    return str(inner), rejected


def _members(source: str) -> Iterator[_Member]:
    if source.lower().endswith(ZIP):
        yield from _zipped(source)
    else:
        yield from _tarred(source)


def _tarred(source: str) -> Iterator[_Member]:
    with tarfile.open(source, errors="surrogateescape", tarinfo=_Entry) as archive:
        for entry in archive:
            if entry.isdir():
                continue
            kind = "" if entry.isreg() else "a link or a device in the archive"
            content = archive.extractfile(entry) if entry.isreg() else None
            yield _Member(entry.name.removeprefix("./"), entry.size, kind, _Given(content))
        while archive.fileobj is not None and archive.fileobj.read(PIECE):
            pass  # to its end, where what it was packed with checks it


class _Entry(tarfile.TarInfo):
    """A member whose header must be whole: the library takes a spoilt one for the end."""

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile)
        except END:
            raise
        except HEADER as error:
            raise SPOILT(f"a header is spoilt: {error}") from None


def _zipped(source: str) -> Iterator[_Member]:
    with zipfile.ZipFile(source) as archive:
        for entry in archive.infolist():
            if entry.is_dir():
                continue
            kind = "encrypted" if entry.flag_bits & 1 else ""
            linked = (entry.external_attr >> 28) == 0xA
            kind = "a link or a device in the archive" if linked else kind
            opened = _Given(None) if kind else _Given(archive.open(entry))
            yield _Member(entry.filename, entry.file_size, kind, opened)


class _Given(AbstractContextManager[IO[bytes]]):
    """A file that is open already."""

    def __init__(self, file: IO[bytes] | None) -> None:
        self._file = file

    def __enter__(self) -> IO[bytes]:
        if self._file is None:
            raise OSError("no file")
        return self._file

    def __exit__(self, *_error: object) -> None:
        if self._file is not None:
            self._file.close()


def _error(member: _Member) -> str:
    if member.kind:
        return member.kind
    parts = member.name.split("/")
    if member.name.startswith("/") or ".." in parts or "\\" in member.name:
        return "its path climbs out of the archive"
    return ""


def _write(member: _Member, path: Path, room: int) -> int:
    """Write the member to `path`; its size. DataError where it has more than `room` bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with member.open as content, path.open("wb") as out:
        while piece := content.read(PIECE):
            written += len(piece)
            if written > room:
                raise DataError(
                    f"{member.name}: the archive unpacks to more than {MAX_TIMES} times its size,"
                    " or than there is room for; make room, or unpack it yourself"
                )
            out.write(piece)
    return written
