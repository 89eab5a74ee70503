"""The journal stores numbered events and rejects damaged files."""

import re
from pathlib import Path

import pytest

from raysearch.data.files import Folder
from raysearch.errors import StudyError
from raysearch.search.journal import journal as journal_module
from raysearch.search.journal.events import FoldReport, TrialPaused, TrialsExtended
from raysearch.search.journal.journal import MAX_SEGMENT_EVENTS, Journal


@pytest.fixture(params=["local", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    return Folder(tmp_path / "j") if request.param == "local" else Folder(f"memory://{tmp_path}/j")


def report(value: float) -> FoldReport:
    return FoldReport("t0000", 0, 1, value, {"auroc": value}, 1.0, 0.5)


def times(journal: Journal) -> list[float]:
    return [event.time for event in journal.events]


def trials_of(journal: Journal) -> list[int]:
    return [event.trials for event in journal.events if isinstance(event, TrialsExtended)]


def test_a_stored_journal_has_the_same_events_on_any_address(folder: Folder) -> None:
    journal = Journal(folder)
    for number in range(MAX_SEGMENT_EVENTS * 2 + 3):
        journal.append(report(number / 7))
    stored = Journal(folder)
    assert stored.events == journal.events
    assert [event.number for event in stored.events] == list(range(MAX_SEGMENT_EVENTS * 2 + 3))


def test_an_append_to_a_stored_journal_continues_its_last_segment(folder: Folder) -> None:
    for number in range(MAX_SEGMENT_EVENTS + 5):
        Journal(folder).append(TrialsExtended(number))
    assert trials_of(Journal(folder)) == list(range(MAX_SEGMENT_EVENTS + 5))
    assert len(folder.names()) == 2


def test_events_of_one_append_are_stored_together(folder: Folder) -> None:
    Journal(folder).append(TrialPaused("a"), TrialPaused("b"))
    assert [event for event in Journal(folder).events if isinstance(event, TrialPaused)] == [
        TrialPaused(name, number=number, time=time)
        for number, (name, time) in enumerate(zip("ab", times(Journal(folder)), strict=True))
    ]


def test_a_number_that_is_not_finite_is_never_written(folder: Folder) -> None:
    journal = Journal(folder)
    with pytest.raises(ValueError, match="not JSON compliant"):
        journal.append(report(float("nan")))
    assert Journal(folder).events == []


def test_every_flipped_byte_and_every_truncation_is_rejected(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    journal = Journal(folder)
    for number in range(3):
        journal.append(TrialsExtended(number))
    path = next(tmp_path.iterdir())
    good = path.read_bytes()
    bad = [
        good[:index] + bytes([good[index] ^ 1]) + good[index + 1 :] for index in range(len(good))
    ]
    bad += [good[:index] for index in range(len(good))]
    for content in bad:
        path.write_bytes(content)
        with pytest.raises(StudyError, match=re.escape(str(path))) as rejected:
            Journal(folder)
        assert "\n" not in str(rejected.value)


def test_a_truncated_segment_is_not_read_as_an_earlier_journal(tmp_path: Path) -> None:
    journal = Journal(Folder(tmp_path))
    for number in range(MAX_SEGMENT_EVENTS + 9):
        journal.append(TrialsExtended(number))
    path = max(tmp_path.iterdir())
    lines = path.read_text().splitlines(keepends=True)
    for num_lines in range(len(lines)):
        path.write_text("".join(lines[:num_lines]))
        with pytest.raises(StudyError, match="truncated, or its first line is damaged"):
            Journal(Folder(tmp_path))


class Clocks:
    """The time of day, which may be set, and a time that only goes on."""

    def __init__(self, day: float) -> None:
        self.day, self.steady = day, 50.0

    def sleep(self, seconds: float) -> None:
        self.day += seconds
        self.steady += seconds

    def open(self, folder: Folder) -> Journal:
        return Journal(folder, wall=lambda: self.day, steady=lambda: self.steady)


@pytest.mark.parametrize("jump", [-1e6, 1e6])
def test_a_clock_that_jumps_during_a_launch_changes_no_times(folder: Folder, jump: float) -> None:
    clocks = Clocks(1e9)
    journal = clocks.open(folder)
    for _ in range(3):
        journal.append(TrialPaused("t0000"))
        clocks.sleep(10)
        clocks.day += jump
    assert times(Journal(folder)) == [1e9, 1e9 + 10, 1e9 + 20]


def test_a_launch_with_a_clock_set_back_continues_from_the_last_event(folder: Folder) -> None:
    clocks = Clocks(1e9)
    clocks.open(folder).append(TrialPaused("t0000"))
    clocks.day -= 3600
    journal = clocks.open(folder)
    for _ in range(2):
        clocks.sleep(10)
        journal.append(TrialPaused("t0000"))
    assert times(Journal(folder)) == [1e9, 1e9 + 10, 1e9 + 20]


def test_a_journal_of_another_owner_is_not_changed(folder: Folder) -> None:
    def reject() -> None:
        raise StudyError("not yours any more")

    Journal(folder).append(TrialPaused("t0000"))
    journal = Journal(folder, check_owner=reject)
    with pytest.raises(StudyError, match="not yours"):
        journal.append(TrialPaused("t0001"))
    assert Journal(folder).events == journal.events


def test_a_missing_segment_is_rejected(tmp_path: Path) -> None:
    journal = Journal(Folder(tmp_path))
    for _ in range(MAX_SEGMENT_EVENTS * 2):
        journal.append(TrialPaused("t0000"))
    sorted(tmp_path.iterdir())[0].unlink()
    with pytest.raises(StudyError, match="events are missing"):
        Journal(Folder(tmp_path))


def test_a_partial_file_of_a_killed_writer_is_ignored_and_removed(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    Journal(folder).append(TrialPaused("t0000"))
    partial = tmp_path / ".000000000.jsonl.deadbeef"
    partial.write_text("half a li")
    assert len(Journal(folder).events) == 1
    folder.remove_partial_files()
    assert not partial.exists()
    assert len(Journal(folder).events) == 1


def test_a_journal_of_another_format_is_rejected_in_one_line(folder: Folder) -> None:
    line = '0123456789abcdef {"n":0,"at":1.0,"event":"pause","trial":"t0000"}'
    content = f"raysearch journal 1: 1 events, the last 0123456789abcdef\n{line}\n"
    folder.write("000000000.jsonl", content.encode())
    with pytest.raises(StudyError, match=r"journal format 1, but .* reads format 8") as rejected:
        Journal(folder)
    assert "\n" not in str(rejected.value)


@pytest.mark.parametrize("number", [3, 4, 5, 6])
def test_a_journal_of_an_older_format_is_read_and_continued_in_its_format(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    with monkeypatch.context() as older:
        older.setattr(journal_module, "FORMAT", number)
        Journal(folder).append(TrialsExtended(0))
    first_line = f"raysearch journal {number}".encode()
    assert folder.read("000000000.jsonl").startswith(first_line + b": 1 events")
    journal = Journal(folder)
    for trials in range(1, MAX_SEGMENT_EVENTS + 2):
        journal.append(TrialsExtended(trials))
    assert trials_of(Journal(folder)) == list(range(MAX_SEGMENT_EVENTS + 2))
    heads = {folder.read(name)[:19] for name in folder.names()}
    assert heads == {first_line}


def test_the_first_event_of_another_format_is_damaged(folder: Folder) -> None:
    Journal(folder).append(TrialsExtended(0))
    content = folder.read("000000000.jsonl")
    folder.write("000000000.jsonl", content.replace(b"journal 8", b"journal 7", 1))
    with pytest.raises(StudyError, match="event 0 is damaged"):
        Journal(folder)
