"""How far the journal of a study was: its head, which is stored outside of the journal.

A journal whose last segments are removed, or that is replaced by an older copy, is consistent in
itself. Each append therefore writes the number of events and the checksum of the last one to two
further files: one in the study's folder, and one in this user's cache, which an older copy of the
whole folder does not replace.

A head is written after the events that it counts are on the disk, and read before them. A launcher
that is killed between the two, or a power failure, leaves a head of fewer events, which every later
state of the journal contains. A head that cannot be read is ignored and written again.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from raysearch.data.cache_folder import cache_folder, private_folder
from raysearch.data.files import Folder
from raysearch.errors import UserError
from raysearch.search.journal.study_folder import StudyFolder

log = logging.getLogger(__name__)
CACHE_NAME = "journals"
_LINE = re.compile(rb"raysearch journal head: (\d{12}) events, the last ([0-9a-f]{16}), (\w{16})\n")


@dataclass(frozen=True)
class JournalHead:
    """The number of events of a journal, and the checksum of the last one."""

    num_events: int
    checksum: str

    def encode(self) -> bytes:
        """The head as one line with a checksum of its own; all lines are equally long."""
        text = f"{self.num_events:012d} events, the last {self.checksum}"
        return f"raysearch journal head: {text}, {_checksum(text)}\n".encode()

    @classmethod
    def decode(cls, content: bytes) -> JournalHead | None:
        """Read what `encode` returns; None for anything else."""
        match = _LINE.fullmatch(content)
        if match is None:
            return None
        head = cls(int(match[1]), match[2].decode())
        return head if head.encode() == content else None


@dataclass(frozen=True)
class HeadFile:
    """A file with the head of a journal: the file `name` in `folder`."""

    folder: Folder
    name: str

    @property
    def path(self) -> str:
        """The path of the file."""
        return self.folder.path(self.name)

    def read(self) -> JournalHead | None:
        """Read the head; None if there is none that can be read."""
        try:
            return JournalHead.decode(self.folder.read(self.name, max_bytes=1000))
        except (OSError, UserError):
            return None

    def write(self, head: JournalHead) -> None:
        """Write the head; if that fails, the older one remains, which is no error.

        A local file is overwritten in its place and not synced: the head may be older than the
        journal, and must not cost as much as an append. A file with further names is replaced: a
        copy of the study by hard links keeps its own head.
        """
        content = head.encode()
        try:
            if not (self.folder.is_local and _overwrite(Path(self.path), content)):
                self.folder.write(self.name, content)
        except (OSError, UserError) as error:
            log.info("the head of the journal was not written: %s", error)


def head_files(folder: StudyFolder, identity: str) -> Sequence[HeadFile]:
    """The head files of the journal of the study `identity` in `folder`.

    The one in the cache is named after the address, too: a copy of a study elsewhere is another
    journal.
    """
    files = [HeadFile(folder, folder.JOURNAL_HEAD)]
    address = os.path.realpath(folder.root) if folder.is_local else folder.address
    key = hashlib.sha256(f"{identity}\n{address}".encode()).hexdigest()[:32]
    try:
        files.append(HeadFile(Folder(private_folder(cache_folder() / CACHE_NAME)), f"{key}.head"))
    except (UserError, RuntimeError) as error:  # no home, or a cache that cannot be used
        log.info("the head of the journal is not written to the cache: %s", error)
    return files


def _overwrite(path: Path, content: bytes) -> bool:
    """Overwrite the file at `path` if it is as long as `content` and has no other name.

    Returns:
        Whether it was overwritten.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        status = os.fstat(descriptor)
        if status.st_size != len(content) or status.st_nlink != 1:
            return False
        return os.pwrite(descriptor, content, 0) == len(content)
    finally:
        os.close(descriptor)


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
