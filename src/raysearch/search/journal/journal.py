"""The study's only memory: numbered events, each with a checksum that includes the one before."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import replace

from raysearch.data.files import Folder
from raysearch.errors import StudyError
from raysearch.search.journal.codec import dump_event, load_event
from raysearch.search.journal.events import Event

FORMAT = 2
MAX_SEGMENT_EVENTS = 64
_ADVICE = "restore the journal from a copy or start a new study"
_HEAD = "raysearch journal "


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
        wall: Clock in seconds since the epoch, read once.
        steady: Monotonic clock in seconds. The time of a new event is that of `wall` when the
            journal was opened plus the progress of `steady`, so that no event is earlier than the
            one before it, even if the machine's clock is changed.

    Raises:
        StudyError: If a segment is missing or damaged, or was written by another version.
    """

    def __init__(
        self,
        folder: Folder,
        check_owner: Callable[[], None] = always_owner,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder, self._check_owner, self._steady = folder, check_owner, steady
        self.events: list[Event] = []
        self._lines: list[str] = []
        self._last_checksum = ""
        for number, name in enumerate(folder.names()):
            self._read(name, number)
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
        checksum = self._last_checksum
        for number, event in enumerate(events, len(self.events)):
            numbered.append(replace(event, number=number, time=now))
            text = dump_event(numbered[-1])
            checksum = _checksum(checksum, text)
            lines.append(f"{checksum} {text}")
        first = len(self.events) - (len(lines) - len(numbered))
        content = "".join(f"{line}\n" for line in (_head(len(lines), checksum), *lines))
        self._folder.write(_segment_name(first), content.encode())
        self._lines, self._last_checksum = lines, checksum
        self.events += numbered
        return numbered

    def _latest_time(self) -> float:
        return self.events[-1].time if self.events else 0.0

    def _read(self, name: str, number: int) -> None:
        address = self._folder.path(name)
        if name != _segment_name(len(self.events)):
            raise StudyError(
                f"{address}: segment {number} of the journal is not the next one; events are"
                f" missing, {_ADVICE}"
            )
        *lines, remainder = self._folder.read(name).decode(errors="replace").split("\n")
        head, self._lines = "".join(lines[:1]), lines[1:]
        _reject_other_format(address, head)
        for line in self._lines:
            checksum, _, text = line.partition(" ")
            if checksum != _checksum(self._last_checksum, text):
                raise StudyError(f"{address}: event {len(self.events)} is damaged; {_ADVICE}")
            self._last_checksum = checksum
            try:
                self.events.append(load_event(text))
            except StudyError as error:
                raise StudyError(
                    f"{address}: event {len(self.events)} cannot be read ({error}); {_ADVICE}"
                ) from None
        if remainder or head != _head(len(self._lines), self._last_checksum):
            raise StudyError(f"{address}: truncated, or its first line is damaged; {_ADVICE}")


def _reject_other_format(address: str, head: str) -> None:
    number = head.removeprefix(_HEAD).partition(":")[0] if head.startswith(_HEAD) else ""
    if number.isdecimal() and int(number) != FORMAT:
        raise StudyError(
            f"{address}: journal format {number}, but this version of raysearch reads format"
            f" {FORMAT}; use the version that launched the study, or start a new study"
        )


def _head(count: int, checksum: str) -> str:
    return f"{_HEAD}{FORMAT}: {count} events, the last {checksum}"


def _segment_name(first: int) -> str:
    return f"{first:09d}.jsonl"


def _checksum(previous: str, text: str) -> str:
    return hashlib.sha256(f"{previous} {text}".encode()).hexdigest()[:16]
