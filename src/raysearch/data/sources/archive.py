"""Unpacks an archive of images to a temporary folder, with protection against malicious content."""

from __future__ import annotations

import errno
import lzma
import posixpath
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from raysearch.data.images import expansion
from raysearch.data.sources.file_paths import MAX_DEPTH, TOO_DEEP, is_hidden
from raysearch.data.sources.listing import Rejected
from raysearch.data.sources.tar_headers import open_tar
from raysearch.errors import DataError, first_line

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
ZIP_SUFFIXES = (".zip",)
# IDC's archive, the largest known one, has 555,048 files.
MAX_MEMBERS, MAX_FOLDERS = 1_000_000, 100_000
# An archive with many files has at least so many bytes for each.
FEW_MEMBERS, MIN_MEMBER_BYTES = 10_000, 16
READ_BYTES = 2**20
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
DAMAGED = (
    OSError,
    EOFError,
    RecursionError,
    ValueError,
    OverflowError,
    zlib.error,
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
    NotImplementedError,
)
SPECIAL_FILE = "a link or a device in the archive"
DUPLICATE = "the archive contains this name twice; the first file is used"
EMPTY_FILE = "empty file"
FILE_AND_FOLDER = "the archive contains a folder and a file of this name"
NAME_ERRORS = (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ)
# Flag bits of a zip member.
ENCRYPTED, PATCHED = 0x1, 0x20
READ_COMPRESSIONS = (
    zipfile.ZIP_STORED,
    zipfile.ZIP_DEFLATED,
    zipfile.ZIP_BZIP2,
    zipfile.ZIP_LZMA,
)
COMPRESSION_NAMES = {1: "shrink", 6: "implode", 9: "Deflate64", 93: "Zstandard", 98: "PPMd"}


@dataclass(frozen=True)
class _Member:
    """A file in an archive.

    Attributes:
        name: Its path in the archive.
        size: Its size in bytes, unpacked.
        content: Its content; None if it must not be unpacked.
        rejection: The reason why it must not be unpacked; empty if it is unpacked.
    """

    name: str
    size: int
    content: IO[bytes] | None
    rejection: str = ""


def is_archive(source: str) -> bool:
    """Whether `source` is a file with the suffix of an archive."""
    return source.lower().endswith((*TAR_SUFFIXES, *ZIP_SUFFIXES)) and Path(source).is_file()


def unpack(source: str, scratch: Path) -> tuple[Path, list[Rejected]]:
    """Unpack an archive.

    Hidden files are ignored, see `is_hidden`.

    Args:
        source: The archive.
        scratch: The folder to unpack to.

    Returns:
        The folder in `scratch` with the files, and the members that were not unpacked.

    Raises:
        DataError: If the archive is damaged or cannot be read, exceeds a limit, or if none of its
            members can be unpacked.
    """
    target = scratch / "archive"
    try:
        max_members = FEW_MEMBERS + Path(source).stat().st_size // MIN_MEMBER_BYTES
        max_members = min(max_members, MAX_MEMBERS)
        writer = _Writer(source, target, max_unpacked_bytes(source, scratch), max_members)
        for member in _members(source):
            writer.add(member)
    except DAMAGED as error:
        if isinstance(error, OSError) and error.errno in NO_SPACE:
            raise
        raise DataError(_archive_error(source, error)) from None
    if not target.is_dir():
        raise DataError(_nothing_unpacked(source, writer.rejected))
    return target, writer.rejected


def max_unpacked_bytes(source: str, scratch: Path) -> int:
    """The number of bytes that the compressed file `source` may fill in `scratch`."""
    return min(shutil.disk_usage(scratch).free, expansion.IMAGES.max_bytes(source))


@dataclass
class _Writer:
    """Writes members to the folder `target`, and enforces the limits of the whole archive."""

    source: str
    target: Path
    remaining_bytes: int
    max_members: int
    rejected: list[Rejected] = field(default_factory=list)
    num_members: int = 0
    paths: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)

    def add(self, member: _Member) -> None:
        """Write a member to `target`, or reject it."""
        self.num_members += 1
        self._check_number(self.num_members, self.max_members, "files")
        # The size counts also if the member is not written: skipping it takes as long.
        self._check_size(member, member.size)
        if is_hidden(member.name):
            self.remaining_bytes -= member.size
            return
        rejection = self._rejection(member)
        if rejection or member.content is None:
            self.remaining_bytes -= member.size
            self.rejected.append(Rejected(member.name, rejection))
            return
        with member.content as content:
            self._write(member, content)

    def _rejection(self, member: _Member) -> str:
        path = posixpath.normpath(member.name)
        if member.rejection:
            return member.rejection
        if path.count("/") > MAX_DEPTH:
            return TOO_DEEP
        if path in self.paths:
            return DUPLICATE
        self.paths.add(path)
        return "" if member.size else EMPTY_FILE

    def _write(self, member: _Member, content: IO[bytes]) -> None:
        path = self.target / member.name
        try:
            self._make_folder(posixpath.dirname(posixpath.normpath(member.name)))
            out = path.open("xb")
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            self.rejected.append(Rejected(member.name, FILE_AND_FOLDER))
            return
        except OSError as error:
            if error.errno not in NAME_ERRORS:
                raise
            self.rejected.append(
                Rejected(member.name, f"its name is not possible: {error.strerror}")
            )
            return
        num_bytes = 0
        with out:
            while block := content.read(READ_BYTES):
                num_bytes += len(block)
                self._check_size(member, num_bytes)
                out.write(block)
        self.remaining_bytes -= num_bytes

    def _make_folder(self, name: str) -> None:
        """Make the folder `name` of the archive and those that contain it, and count them."""
        if name in self.folders:
            return
        if name:
            self._make_folder(posixpath.dirname(name))
        self._check_number(len(self.folders), MAX_FOLDERS, "folders")
        (self.target / name).mkdir(parents=not name, exist_ok=True)
        self.folders.add(name)

    def _check_number(self, number: int, limit: int, kind: str) -> None:
        if number > limit:
            raise DataError(
                f"{self.source}: contains more than {limit:,} {kind}; unpack it with another"
                " program, and name the folder"
            )

    def _check_size(self, member: _Member, num_bytes: int) -> None:
        if num_bytes > self.remaining_bytes:
            raise DataError(
                f"{self.source}: unpacks to more than {expansion.IMAGES.factor} times its size, or"
                f" than there is disk space ({member.name}); free disk space, or unpack it yourself"
            )


def _archive_error(source: str, error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno:
        return f"{source}: cannot be read ({error.strerror}); check the file and its permissions"
    return f"{source}: damaged ({first_line(error)}); download it again"


def _nothing_unpacked(source: str, rejected: list[Rejected]) -> str:
    if not rejected:
        return f"{source}: no files in it; give the archive that contains the images"
    first = rejected[0]
    if all(entry.reason == EMPTY_FILE for entry in rejected):
        return f"{source}: all its {len(rejected):,} files are empty; download it again"
    return (
        f"{source}: none of its {len(rejected):,} files can be unpacked ({first.file}:"
        f" {first.reason}); unpack it with another program, and name the folder"
    )


def _members(source: str) -> Iterator[_Member]:
    if source.lower().endswith(ZIP_SUFFIXES):
        yield from _zip_members(source)
    else:
        yield from _tar_members(source)


def _tar_members(source: str) -> Iterator[_Member]:
    with open_tar(source) as archive:
        for entry in archive:
            if entry.isdir():
                continue
            name = entry.name.removeprefix("./")
            rejection = _path_error(name) if entry.isreg() else SPECIAL_FILE
            content = None if rejection else archive.content(entry)
            yield _Member(name, entry.size, content, rejection)


def _zip_members(source: str) -> Iterator[_Member]:
    with zipfile.ZipFile(source) as archive:
        for entry in archive.infolist():
            # Some programs of Windows write backslashes, against the specification of zip.
            name = entry.filename.replace("\\", "/")
            if name.endswith("/"):
                continue
            rejection = _zip_error(entry) or _path_error(name)
            content = None if rejection or not entry.file_size else archive.open(entry)
            yield _Member(name, entry.file_size, content, rejection)


def _zip_error(entry: zipfile.ZipInfo) -> str:
    if (entry.external_attr >> 28) == 0xA:
        return SPECIAL_FILE
    if entry.flag_bits & ENCRYPTED:
        return "encrypted"
    if entry.flag_bits & PATCHED:
        return "compressed as a patch of another file, which cannot be read"
    if entry.compress_type not in READ_COMPRESSIONS:
        number = entry.compress_type
        name = COMPRESSION_NAMES.get(number, f"method {number}")
        return f"compressed with {name}, which cannot be read"
    return ""


def _path_error(name: str) -> str:
    if name.startswith("/") or ".." in name.split("/") or name[1:3] == ":/":
        return "its path leads out of the archive"
    return "a backslash in its path" if "\\" in name else ""
