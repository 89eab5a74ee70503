"""The journal of a study that another process runs, read again as it grows."""

from __future__ import annotations

from collections.abc import Sequence

from raysearch.data.files import Folder
from raysearch.search.journal.events import Event
from raysearch.search.journal.journal import _SEGMENT_NAME, Journal


class FollowedJournal(Journal):
    """A journal to which another process appends.

    Args:
        folder: Folder of the segments.

    Raises:
        StudyError: If a segment is missing or damaged, or was written by another version.
    """

    def __init__(self, folder: Folder) -> None:
        super().__init__(folder)
        self._num_returned = 0
        segments = self._segments()
        self._last_segment = segments[-1] if segments else ""

    def new_events(self) -> Sequence[Event]:
        """Return the events after those that were returned before.

        Of the known segments, only the last is read again: it is the only one that grows.

        Raises:
            StudyError: If a segment is missing or damaged, or was written by another version.
        """
        segments = [name for name in self._segments() if name >= self._last_segment]
        if segments:
            first = int(segments[0].partition(".")[0])
            del self.events[first:], self._checksums[first:]
            for name in segments:
                self._read(name)
            self._last_segment = segments[-1]
        events = self.events[self._num_returned :]
        self._num_returned += len(events)
        return events

    def _segments(self) -> list[str]:
        return [name for name in self._folder.names() if _SEGMENT_NAME.fullmatch(name)]
