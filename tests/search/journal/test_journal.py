import re
from pathlib import Path

import pytest

from raysearch.data.files import Folder
from raysearch.errors import StudyError
from raysearch.search.journal.journal import SEGMENT, Journal


@pytest.fixture(params=["local", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    return Folder(tmp_path / "j") if request.param == "local" else Folder(f"memory://{tmp_path}/j")


def test_a_journal_read_again_tells_the_same_events_on_any_address(folder: Folder) -> None:
    journal = Journal(folder)
    for number in range(SEGMENT * 2 + 3):
        journal.append({"event": "report", "value": number / 7})
    again = Journal(folder)
    assert again.events == journal.events
    assert [event["n"] for event in again.events] == list(range(SEGMENT * 2 + 3))


def test_a_journal_goes_on_where_it_was_left(folder: Folder) -> None:
    for number in range(SEGMENT + 5):
        Journal(folder).append({"event": "x", "value": number})
    assert [event["value"] for event in Journal(folder).events] == list(range(SEGMENT + 5))
    assert len(folder.names()) == 2


def test_events_of_one_append_stand_together(folder: Folder) -> None:
    Journal(folder).append({"event": "a"}, {"event": "b"})
    assert [event["event"] for event in Journal(folder).events] == ["a", "b"]


def test_a_number_that_is_not_finite_is_never_written(folder: Folder) -> None:
    journal = Journal(folder)
    with pytest.raises(ValueError, match="not JSON compliant"):
        journal.append({"event": "report", "value": float("nan")})
    assert Journal(folder).events == []


def test_every_flipped_byte_and_every_truncation_is_rejected(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    journal = Journal(folder)
    for number in range(3):
        journal.append({"event": "x", "value": number})
    path = next(tmp_path.iterdir())
    good = path.read_bytes()
    bad = [
        good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :] for place in range(len(good))
    ]
    bad += [good[:place] for place in range(len(good))]
    for content in bad:
        path.write_bytes(content)
        with pytest.raises(StudyError, match=re.escape(str(path))) as rejected:
            Journal(folder)
        assert "\n" not in str(rejected.value)


def test_a_segment_without_its_last_events_is_no_earlier_journal(tmp_path: Path) -> None:
    journal = Journal(Folder(tmp_path))
    for number in range(SEGMENT + 9):
        journal.append({"event": "x", "value": number})
    path = max(tmp_path.iterdir())
    lines = path.read_text().splitlines(keepends=True)
    for kept in range(len(lines)):
        path.write_text("".join(lines[:kept]))
        with pytest.raises(StudyError, match="cut short, or its first line is damaged; restore"):
            Journal(Folder(tmp_path))


class Clocks:
    """The time of day, which may be set, and a time that only goes on."""

    def __init__(self, day: float) -> None:
        self.day, self.steady = day, 50.0

    def sleep(self, seconds: float) -> None:
        self.day += seconds
        self.steady += seconds

    def open(self, folder: Folder) -> Journal:
        return Journal(folder, lambda: self.day, lambda: self.steady)


@pytest.mark.parametrize("jump", [-1e6, 1e6])
def test_a_clock_that_jumps_during_a_launch_changes_no_times(folder: Folder, jump: float) -> None:
    clocks = Clocks(1e9)
    journal = clocks.open(folder)
    for _ in range(3):
        journal.append({"event": "x"})
        clocks.sleep(10)
        clocks.day += jump
    assert [event["at"] for event in Journal(folder).events] == [1e9, 1e9 + 10, 1e9 + 20]


def test_a_launch_by_a_clock_that_was_put_back_goes_on_from_the_last_event(folder: Folder) -> None:
    clocks = Clocks(1e9)
    clocks.open(folder).append({"event": "x"})
    clocks.day -= 3600
    journal = clocks.open(folder)
    for _ in range(2):
        clocks.sleep(10)
        journal.append({"event": "x"})
    assert [event["at"] for event in Journal(folder).events] == [1e9, 1e9 + 10, 1e9 + 20]


def test_a_journal_that_may_not_be_written_stays_as_it_is(folder: Folder) -> None:
    def reject() -> None:
        raise StudyError("not yours any more")

    journal = Journal(folder)
    journal.append({"event": "x"})
    journal.assure = reject
    with pytest.raises(StudyError, match="not yours"):
        journal.append({"event": "y"})
    assert Journal(folder).events == journal.events


def test_a_missing_segment_is_rejected(tmp_path: Path) -> None:
    journal = Journal(Folder(tmp_path))
    for _ in range(SEGMENT * 2):
        journal.append({"event": "x"})
    sorted(tmp_path.iterdir())[0].unlink()
    with pytest.raises(StudyError, match="events are missing"):
        Journal(Folder(tmp_path))


def test_what_a_killed_writer_left_is_no_segment_and_is_swept_away(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    Journal(folder).append({"event": "x"})
    left = tmp_path / ".000000000.jsonl.deadbeef"
    left.write_text("half a li")
    assert len(Journal(folder).events) == 1
    folder.sweep()
    assert not left.exists()
    assert len(Journal(folder).events) == 1
