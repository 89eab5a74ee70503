"""The study's only memory: numbered events, each with a checksum that includes the one before."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from raysearch.data.files import Folder
from raysearch.errors import StudyError
from raysearch.search.journal.codec import dump_event, load_event
from raysearch.search.journal.events import Event, FoldReport
from raysearch.search.journal.journal_head import HeadFile, JournalHead

FORMAT = 8
# A journal of an older format is continued in that format, in which later events are optional.
READABLE_FORMATS = (3, 4, 5, 6, 7, FORMAT)
MAX_SEGMENT_EVENTS = 64
MAX_SEGMENT_BYTES = 64 * 2**20
# So many characters of a first line are searched for the number of its format.
MAX_HEAD = 300
_ADVICE = "restore the journal from a copy or start a new study"
# Other files in the folder of the journal are no part of it: notes, files of editors and systems.
_SEGMENT_NAME = re.compile(r"[0-9]{9}\.jsonl")
_FIRST_LINE = re.compile(r"raysearch journal [0-9]{1,20}: [0-9]{1,20} events, the last [0-9a-f]*")
# The format number in the first line of a segment of any version, which may look different.
_ANY_FORMAT = re.compile(r"raysearch\W+journal\D{0,40}?([0-9]{1,20})|\bformat\W{0,4}([0-9]{1,20})")


class OlderJournalError(StudyError):
    """The journal lacks events that it had before, or does not show them yet."""


def always_owner() -> None:
    """Accept every append: no other process writes to the journal."""


class Journal:
    """The events of the study in `folder`, in order.

    The events are stored in segments of up to `MAX_SEGMENT_EVENTS` lines. Each append writes the
    last segment to a temporary file and moves that into place, so that a disk and an object store
    behave alike and no reader sees half a line. The first line of a segment has the number of its
    events and the checksum of the last one, so that a truncated segment is detected. Only the
    launcher of the study appends; every process may read.

    Args:
        folder: Folder of the segments.
        check_owner: Called before each append; raises if this process may no longer append.
        heads: The files that tell how far the journal was; each append writes them.
        wall: Clock in seconds since the epoch, read once.
        steady: Monotonic clock in seconds. The time of a new event is that of `wall` when the
            journal was opened plus the progress of `steady`, so that no event is earlier than the
            one before it, even if the machine's clock is changed.

    Raises:
        OlderJournalError: If a segment is missing, or the journal was set back to an older state.
        StudyError: If a segment is damaged, or was written by another version.
    """

    def __init__(
        self,
        folder: Folder,
        check_owner: Callable[[], None] = always_owner,
        heads: Sequence[HeadFile] = (),
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder, self._check_owner, self._steady = folder, check_owner, steady
        self._heads = heads
        self._format = FORMAT
        self.events: list[Event] = []
        self._lines: list[str] = []
        self._checksums: list[str] = []
        # Before the segments, so that another process may append meanwhile.
        stored_heads = [(file, file.read()) for file in heads]
        for name in filter(_SEGMENT_NAME.fullmatch, folder.names()):
            self._read(name)
        known_heads = [(file, head) for file, head in stored_heads if head is not None]
        self._read_unlisted(max((head.num_events for _file, head in known_heads), default=0))
        self._check_heads(known_heads)
        self._opened = max(wall(), self._latest_time()) - steady()

    def append(self, *events: Event) -> list[Event]:
        """Append `events` together, all or none, and return them with their number and time.

        Raises:
            ValueError: If a number is not finite.
        """
        self._check_owner()
        now = max(self._latest_time(), self._opened + self._steady())
        numbered: list[Event] = []
        lines = list(self._lines) if len(self._lines) < MAX_SEGMENT_EVENTS else []
        checksums: list[str] = []
        checksum = self._last_checksum
        for number, event in enumerate(events, len(self.events)):
            numbered.append(replace(event, number=number, time=now))
            text = dump_event(numbered[-1])
            checksum = _checksum(checksum, text)
            checksums.append(checksum)
            lines.append(f"{checksum} {text}")
        first = len(self.events) - (len(lines) - len(numbered))
        content = "".join(f"{line}\n" for line in (self._head(len(lines), checksum), *lines))
        self._folder.write(_segment_name(first), content.encode())
        if self._folder.is_local:
            _sync(self._folder.path())
        self._lines = lines
        self._checksums += checksums
        self.events += numbered
        # Another request to an object store costs as much as the append. Fold reports alone that
        # are lost are trained again; whatever else happens, the head is written.
        is_needed = len(lines) == len(numbered) or not isinstance(numbered[-1], FoldReport)
        for file in self._heads:
            if file.folder.is_local or is_needed:
                file.write(self.head)
        return numbered

    @property
    def head(self) -> JournalHead:
        """The number of events, and the checksum of the last one."""
        return JournalHead(len(self.events), self._last_checksum)

    @property
    def _last_checksum(self) -> str:
        # The checksum before the first event: events of another format have other checksums.
        return self._checksums[-1] if self._checksums else f"format {self._format}"

    def _head(self, count: int, checksum: str) -> str:
        return f"raysearch journal {self._format}: {count} events, the last {checksum}"

    def _latest_time(self) -> float:
        return self.events[-1].time if self.events else 0.0

    def _read(self, name: str) -> None:
        address, expected = self._folder.path(name), _segment_name(len(self.events))
        if name != expected:
            raise OlderJournalError(
                f"{address}: not the next segment of the journal, which is {expected}; events are"
                f" missing, {_ADVICE}"
            )
        content = self._folder.read(name, max_bytes=MAX_SEGMENT_BYTES)
        *lines, remainder = content.decode(errors="replace").split("\n")
        head, self._lines = "".join(lines[:1]), lines[1:]
        self._check_first_line(address, head or remainder)
        for line in self._lines:
            checksum, _, text = line.partition(" ")
            if checksum != _checksum(self._last_checksum, text):
                raise StudyError(f"{address}: event {len(self.events)} is damaged; {_ADVICE}")
            self._checksums.append(checksum)
            try:
                self.events.append(_numbered_event(text, len(self.events)))
            except StudyError as error:
                raise StudyError(
                    f"{address}: event {len(self.events)} cannot be read ({error}); {_ADVICE}"
                ) from None
        if remainder or head != self._head(len(self._lines), self._last_checksum):
            raise StudyError(f"{address}: truncated, or its first line is damaged; {_ADVICE}")

    def _read_unlisted(self, num_events: int) -> None:
        """Read the segments up to the event `num_events` that the list of files lacks.

        A network file system shows a list that may be a minute old, but opens newer files.
        """
        while self._folder.is_local and len(self.events) < num_events:
            first = len(self.events)
            try:
                self._read(_segment_name(first))
            except FileNotFoundError:
                return
            if len(self.events) == first:
                return

    def _check_first_line(self, address: str, head: str) -> None:
        """Reject a segment of another format, whatever its lines look like."""
        number = next(filter(None, _format_numbers(head[:MAX_HEAD])), None)
        if number in READABLE_FORMATS and not self.events:
            self._format = number
        checksum, _, text = "".join(self._lines[:1]).partition(" ")
        has_own_events = checksum == _checksum(self._last_checksum, text)
        if number is not None and number not in READABLE_FORMATS and not has_own_events:
            advice = (
                "update raysearch"
                if number > FORMAT
                else "use the version that launched the study, or start a new study"
            )
            raise StudyError(
                f"{address}: journal format {number}, but this version of raysearch reads format"
                f" {FORMAT}; {advice}"
            )
        if not _FIRST_LINE.fullmatch(head):
            raise StudyError(
                f"{address}: truncated, or its first line is damaged or of a newer version of"
                f" raysearch; {_ADVICE}"
            )

    def _check_heads(self, heads: Sequence[tuple[HeadFile, JournalHead]]) -> None:
        """Reject a journal that does not contain the events that it had before."""
        later = [(file, head) for file, head in heads if not self._contains(head)]
        if not later:
            return
        file, head = max(later, key=lambda stored: stored[1].num_events)
        paths = " and ".join(file.path for file, _head in later)
        problem = (
            f"ends after {len(self.events)} events, but had {head.num_events}"
            if head.num_events > len(self.events)
            else f"has other events than the {head.num_events} that it had before"
        )
        raise OlderJournalError(
            f"{self._folder.path()}: the journal {problem}, by {file.path}; restore it from a newer"
            " copy, or use this older state, such as that of a backup or of a copy made while the"
            f" study ran: remove {paths}"
        )

    def _contains(self, head: JournalHead) -> bool:
        if not head.num_events:
            return True
        return self._checksums[head.num_events - 1 : head.num_events] == [head.checksum]


def _sync(folder: str) -> None:
    """Let a power failure not undo the names of the files in a local `folder`."""
    with suppress(OSError):  # a file system that syncs no folders
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _numbered_event(text: str, number: int) -> Event:
    """Load an event; StudyError if it is none, or its number is not `number`."""
    event = load_event(text)
    if event.number != number:
        raise StudyError(f"its number is {event.number}")
    return event


def _format_numbers(head: str) -> list[int]:
    return [int(digits) for match in _ANY_FORMAT.finditer(head) for digits in match.groups("0")]


def _segment_name(first: int) -> str:
    return f"{first:09d}.jsonl"


def _checksum(previous: str, text: str) -> str:
    return hashlib.sha256(f"{previous} {text}".encode()).hexdigest()[:16]
