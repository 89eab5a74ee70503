"""Unpacks an archive of images to a temporary folder, with protection against malicious content."""

from __future__ import annotations

import errno
import lzma
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

from raysearch.data.sources.listing import Rejected
from raysearch.errors import DataError

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
ZIP_SUFFIXES = (".zip",)
# Images are compressed already: an archive that unpacks to far more than its size is an attack.
MAX_EXPANSION, MIN_LIMIT_BYTES = 200, 2**30
READ_BYTES = 2**20
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Aliases: the parameter `tarfile` of `fromtarfile` hides the module.
END_OF_ARCHIVE = tarfile.EOFHeaderError  # type: ignore[attr-defined]
HEADER_ERROR, READ_ERROR = tarfile.HeaderError, tarfile.ReadError
DAMAGED = (
    OSError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
    NotImplementedError,
)
SPECIAL_FILE = "a link or a device in the archive"


@dataclass(frozen=True)
class _Member:
    """A file in an archive.

    `rejection` is the reason why it must not be unpacked; if there is one, `content` is None.
    """

    name: str
    content: IO[bytes] | None
    rejection: str = ""


def is_archive(source: str) -> bool:
    """Whether `source` is a file with the suffix of an archive."""
    return source.lower().endswith((*TAR_SUFFIXES, *ZIP_SUFFIXES)) and Path(source).is_file()


def unpack(source: str, scratch: Path) -> tuple[str, list[Rejected]]:
    """Unpack an archive.

    Args:
        source: The archive.
        scratch: The folder to unpack to.

    Returns:
        The folder in `scratch` with the files, and the members that were not unpacked.

    Raises:
        DataError: If the archive is damaged, or unpacks to too many bytes.
    """
    target = scratch / "archive"
    rejected: list[Rejected] = []
    try:
        remaining_bytes = min(
            shutil.disk_usage(scratch).free,
            max(MIN_LIMIT_BYTES, MAX_EXPANSION * Path(source).stat().st_size),
        )
        for member in _members(source):
            if member.content is None:
                rejected.append(Rejected(member.name, member.rejection))
                continue
            with member.content as content:
                remaining_bytes -= _write(content, target, member.name, remaining_bytes)
    except DAMAGED as error:
        if isinstance(error, OSError) and error.errno in NO_SPACE:
            raise
        raise DataError(f"{source}: damaged ({error}); download it again") from None
    entries = list(target.iterdir()) if target.is_dir() else []
    folder = entries[0] if len(entries) == 1 and entries[0].is_dir() else target
    return str(folder), rejected


def _members(source: str) -> Iterator[_Member]:
    if source.lower().endswith(ZIP_SUFFIXES):
        yield from _zip_members(source)
    else:
        yield from _tar_members(source)


def _tar_members(source: str) -> Iterator[_Member]:
    with tarfile.open(source, errors="surrogateescape", tarinfo=_StrictTarInfo) as archive:
        for entry in archive:
            if entry.isdir():
                continue
            name = entry.name.removeprefix("./")
            rejection = _path_error(name) if entry.isreg() else SPECIAL_FILE
            content = None if rejection else archive.extractfile(entry)
            yield _Member(name, content, rejection)
        while archive.fileobj is not None and archive.fileobj.read(READ_BYTES):
            pass  # at the end of the file, the decompressor verifies its checksum


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


def _zip_members(source: str) -> Iterator[_Member]:
    with zipfile.ZipFile(source) as archive:
        for entry in archive.infolist():
            if entry.is_dir():
                continue
            if (entry.external_attr >> 28) == 0xA:
                rejection = SPECIAL_FILE
            else:
                rejection = "encrypted" if entry.flag_bits & 1 else _path_error(entry.filename)
            content = None if rejection else archive.open(entry)
            yield _Member(entry.filename, content, rejection)


def _path_error(name: str) -> str:
    if name.startswith("/") or ".." in name.split("/") or "\\" in name:
        return "its path leads out of the archive"
    return ""


def _write(content: IO[bytes], folder: Path, name: str, max_bytes: int) -> int:
    """Write a member to `folder` and return its size; DataError if it exceeds `max_bytes`."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    num_bytes = 0
    with path.open("wb") as out:
        while block := content.read(READ_BYTES):
            num_bytes += len(block)
            if num_bytes > max_bytes:
                raise DataError(
                    f"{name}: the archive unpacks to more than {MAX_EXPANSION} times its size, or"
                    " than there is disk space; free disk space, or unpack it yourself"
                )
            out.write(block)
    return num_bytes
