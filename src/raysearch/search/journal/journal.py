"""The study's only memory: numbered events, each with a checksum that chains to the one before.

The events lie in segments of up to `SEGMENT` lines. A segment is written whole and moved into
place at each append, so that it works alike on a disk and in an object store, and no reader ever
sees half a line. Its first line tells how many events follow and the last one's checksum, so that
one cut short is not taken for an earlier one. Only the launcher of the study writes; anybody may
read.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

from raysearch.data.files import Folder
from raysearch.errors import StudyError

SEGMENT = 64
_ADVICE = "restore the journal from a copy or start a new study"
Event = dict[str, Any]


class Journal:
    """The events of the study in `folder`, in their order.

    A new event's time is that of the `wall` clock when the journal was opened, and what the
    `steady` one went on since: no event is earlier than the one before it, whatever is done to the
    machine's clock. `assure` is asked before each append, and raises where this process may not
    write any more.
    """

    def __init__(
        self,
        folder: Folder,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder, self._steady = folder, steady
        self.assure: Callable[[], None] = lambda: None
        self.events: list[Event] = []
        self._lines: list[str] = []
        self._last = ""
        for number, name in enumerate(folder.names()):
            self._read(name, number)
        self._opened = max(wall(), self._latest()) - steady()

    def append(self, *events: Event) -> list[Event]:
        """Write `events` together, all or none; returns them with number and time.

        Values are plain JSON; a number that is not finite is rejected with ValueError.
        """
        self.assure()
        at = max(self._latest(), self._opened + self._steady())
        stamped: list[Event] = []
        lines = list(self._lines) if len(self._lines) < SEGMENT else []
        last = self._last
        for event in events:
            stamped.append({"n": len(self.events) + len(stamped), "at": at, **event})
            text = json.dumps(stamped[-1], allow_nan=False, separators=(",", ":"))
            last = _link(last, text)
            lines.append(f"{last} {text}")
        first = stamped[0]["n"] - (len(lines) - len(stamped))
        content = "".join(f"{line}\n" for line in (_head(len(lines), last), *lines))
        self._folder.write(_segment_name(first), content.encode())
        self._lines, self._last = lines, last
        self.events += stamped
        return stamped

    def _latest(self) -> float:
        return float(self.events[-1]["at"]) if self.events else 0.0

    def _read(self, name: str, number: int) -> None:
        where = f"{self._folder.path(name)}"
        if name != _segment_name(len(self.events)):
            raise StudyError(
                f"{where}: the journal's segment {number} is not the next one; events are missing,"
                f" {_ADVICE}"
            )
        *lines, rest = self._folder.read(name).decode(errors="replace").split("\n")
        head, self._lines = "".join(lines[:1]), lines[1:]
        for line in self._lines:
            link, _, text = line.partition(" ")
            if link != _link(self._last, text):
                raise StudyError(f"{where}: event {len(self.events)} is damaged; {_ADVICE}")
            self._last = link
            self.events.append(json.loads(text))
        if rest or head != _head(len(self._lines), self._last):
            raise StudyError(f"{where}: cut short, or its first line is damaged; {_ADVICE}")


def _head(count: int, last: str) -> str:
    return f"raysearch journal 1: {count} events, the last {last}"


def _segment_name(first: int) -> str:
    return f"{first:09d}.jsonl"


def _link(last: str, text: str) -> str:
    return hashlib.sha256(f"{last} {text}".encode()).hexdigest()[:16]


def of_kind(events: Sequence[Event], kind: str) -> list[Event]:
    """Those of `events` whose `event` is `kind`."""
    return [event for event in events if event["event"] == kind]
