"""A journal is followed while another process appends to it."""

from pathlib import Path

from raysearch.data.files import RESTORE_ADVICE, Folder
from raysearch.search.journal.events import TrialsExtended
from raysearch.search.journal.followed_journal import FollowedJournal
from raysearch.search.journal.journal import MAX_SEGMENT_EVENTS, Journal


class CountedFolder(Folder):
    """A folder that lists the names of the files that are read."""

    def __init__(self, address: str | Path) -> None:
        super().__init__(address)
        self.read_names: list[str] = []

    def read(self, name: str, max_bytes: int | None = None, advice: str = RESTORE_ADVICE) -> bytes:
        self.read_names.append(name)
        return super().read(name, max_bytes, advice)


def test_new_events_are_returned_once_and_old_segments_are_not_read_again(tmp_path: Path) -> None:
    folder = CountedFolder(tmp_path / "journal")
    followed, journal = FollowedJournal(folder), Journal(Folder(tmp_path / "journal"))
    assert followed.new_events() == []
    for number in range(3 * MAX_SEGMENT_EVENTS // 2):
        journal.append(TrialsExtended(number))
    # Other names than those of segments, the last of which never change.
    for stray in ("notes.txt", ".nfs0001", "zzz"):
        folder.write(stray, b"")
    assert followed.new_events() == journal.events
    folder.read_names.clear()
    for number in range(MAX_SEGMENT_EVENTS):
        journal.append(TrialsExtended(number))
        assert followed.new_events() == journal.events[-1:]
        assert followed.new_events() == []
    assert followed.events == journal.events
    assert "000000000.jsonl" not in folder.read_names
    assert FollowedJournal(folder).new_events() == journal.events
