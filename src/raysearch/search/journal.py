"""The study's only memory: numbered events, each with a checksum that chains to the one before.

The events lie in segments of up to `SEGMENT` lines. A segment is written whole and moved into
place at each append, so that it works alike on a disk and in an object store, and no reader ever
sees half a line. Only the launcher of the study writes; anybody may read.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from typing import Any

from raysearch.data.files import Folder
from raysearch.errors import StudyError

SEGMENT = 64
Event = dict[str, Any]


class Journal:
    """The events of the study in `folder`, in their order."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self.events: list[Event] = []
        self._lines: list[str] = []
        self._last = ""
        for number, name in enumerate(folder.names()):
            self._read(name, number)

    def append(self, *events: Event) -> list[Event]:
        """Write `events` together, all or none; returns them with number and time.

        Values are plain JSON; a number that is not finite is refused with ValueError.
        """
        stamped: list[Event] = []
        lines = list(self._lines) if len(self._lines) < SEGMENT else []
        last = self._last
        for event in events:
            stamped.append({"n": len(self.events) + len(stamped), "at": time.time(), **event})
            text = json.dumps(stamped[-1], allow_nan=False, separators=(",", ":"))
            last = _link(last, text)
            lines.append(f"{last} {text}\n")
        first = stamped[0]["n"] - (len(lines) - len(stamped))
        self._folder.write(_segment_name(first), "".join(lines).encode())
        self._lines, self._last = lines, last
        self.events += stamped
        return stamped

    def _read(self, name: str, number: int) -> None:
        where = f"{self._folder.path(name)}"
        if name != _segment_name(len(self.events)):
            raise StudyError(
                f"{where}: the journal's segment {number} is not the next one; events are missing,"
                " restore the journal from a copy or start a new study"
            )
        self._lines = self._folder.read(name).decode(errors="replace").splitlines(keepends=True)
        for line in self._lines:
            link, _, text = line.rstrip("\n").partition(" ")
            if link != _link(self._last, text) or not line.endswith("\n"):
                raise StudyError(
                    f"{where}: event {len(self.events)} is damaged; restore the journal from a"
                    " copy or start a new study"
                )
            self._last = link
            self.events.append(json.loads(text))


def _segment_name(first: int) -> str:
    return f"{first:09d}.jsonl"


def _link(last: str, text: str) -> str:
    return hashlib.sha256(f"{last} {text}".encode()).hexdigest()[:16]


def of_kind(events: Sequence[Event], kind: str) -> list[Event]:
    """Those of `events` whose `event` is `kind`."""
    return [event for event in events if event["event"] == kind]
