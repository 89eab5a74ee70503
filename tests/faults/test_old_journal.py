"""A journal that was set back, of another format, or with other files beside its segments."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from raysearch.data.cache_folder import VARIABLE, cache_folder
from raysearch.data.files import Folder
from raysearch.errors import StudyError
from raysearch.search.journal.events import FoldReport, TrialWarning
from raysearch.search.journal.journal import FORMAT, MAX_SEGMENT_EVENTS, Journal
from raysearch.search.journal.journal_head import JournalHead, head_files
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study import stored_study
from raysearch.search.study.plan import FORMAT as PLAN_FORMAT
from raysearch.search.study.stored_study import load_study, read_plan
from raysearch.search.study.study import Study
from support.result_studies import new_study, next_searched

ADDRESSES = ("local", "memory")
# A launcher that appends until it is killed.
LAUNCHER = """
import sys
from raysearch.search.journal.events import TrialWarning
from raysearch.search.journal.journal import Journal
from raysearch.search.journal.journal_head import head_files
from raysearch.search.journal.study_folder import StudyFolder

folder = StudyFolder(sys.argv[1])
journal = Journal(folder / folder.JOURNAL, heads=head_files(folder, "id"))
print(len(journal.events), flush=True)
while True:
    journal.append(TrialWarning("t0000", "x"))
"""


@pytest.fixture(autouse=True)
def _cache_of_this_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(stored_study, "REREAD_S", 0.05)


@pytest.fixture(params=ADDRESSES)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> StudyFolder:
    place = f"{tmp_path}/studies/first"
    return StudyFolder(place if request.param == "local" else f"memory://{place}")


def open_journal(folder: StudyFolder) -> Journal:
    return Journal(folder / folder.JOURNAL, heads=head_files(folder, "id"))


def append(folder: StudyFolder, count: int) -> None:
    journal = open_journal(folder)
    for number in range(count):
        journal.append(TrialWarning("t0000", str(number)))


def contents(folder: Folder) -> dict[str, bytes]:
    """Return the files of a study's folder: its head file, and the segments of its journal."""
    names = [*folder.names(), *(f"journal/{name}" for name in folder.names("journal"))]
    return {name: folder.read(name) for name in names if name != "journal"}


def set_back(folder: StudyFolder, old: dict[str, bytes]) -> None:
    for name in contents(folder):
        folder.remove(name)
    for name, content in old.items():
        folder.write(name, content)


def test_a_journal_without_its_last_segment_is_rejected(folder: StudyFolder) -> None:
    append(folder, MAX_SEGMENT_EVENTS + 5)
    folder.remove(f"journal/{MAX_SEGMENT_EVENTS:09d}.jsonl")
    with pytest.raises(StudyError, match="ends after 64 events, but had 69") as rejected:
        open_journal(folder)
    assert "\n" not in str(rejected.value)
    text = str(rejected.value)
    assert "restore it from a newer copy, or use this older state, such as that of a" in text


@pytest.mark.parametrize("has_later_events", [False, True])
def test_an_older_copy_of_the_whole_folder_is_rejected_until_the_user_accepts_it(
    folder: StudyFolder, has_later_events: bool
) -> None:
    append(folder, 3)
    old = contents(folder)
    append(folder, 4)
    set_back(folder, old)
    if has_later_events:  # as by a launcher on another machine, which has another cache
        Journal(folder / folder.JOURNAL).append(*[TrialWarning("t0000", "other")] * 9)
    with pytest.raises(StudyError) as rejected:
        open_journal(folder)
    problem = "has other events than the 7" if has_later_events else "ends after 3 events"
    assert problem in str(rejected.value)
    paths = str(rejected.value).partition(": remove ")[2].split(" and ")
    (path,) = map(Path, paths)
    assert path.parent == cache_folder() / "journals"
    path.unlink()
    append(folder, 1)
    assert len(open_journal(folder).events) == (13 if has_later_events else 4)


def test_an_older_copy_of_the_journal_alone_names_both_files(folder: StudyFolder) -> None:
    append(folder, 3)
    old = contents(folder)
    append(folder, 4)
    set_back(folder, {**old, folder.JOURNAL_HEAD: folder.read(folder.JOURNAL_HEAD)})
    with pytest.raises(StudyError) as rejected:
        open_journal(folder)
    paths = str(rejected.value).partition(": remove ")[2].split(" and ")
    assert paths == [file.path for file in head_files(folder, "id")]


def test_a_copy_elsewhere_is_another_journal(folder: StudyFolder, tmp_path: Path) -> None:
    append(folder, 3)
    copy = StudyFolder(tmp_path / "copy")
    set_back(copy, contents(folder))
    append(folder, 4)
    append(copy, 1)
    assert len(open_journal(copy).events) == 4


def test_a_copy_by_hard_links_keeps_its_own_head(tmp_path: Path) -> None:
    """As by `cp -al`: what the study appends later is not written to the copy."""
    folder, copy = StudyFolder(tmp_path / "first"), StudyFolder(tmp_path / "copy")
    append(folder, 3)
    shutil.copytree(folder.local, copy.local, copy_function=os.link)
    append(folder, 2)
    assert len(open_journal(copy).events) == 3
    append(copy, 4)
    assert len(open_journal(copy).events) == 7
    assert len(open_journal(folder).events) == 5
    inode = (folder.local / folder.JOURNAL_HEAD).stat().st_ino
    append(folder, 2)
    assert (folder.local / folder.JOURNAL_HEAD).stat().st_ino == inode


def test_a_copy_made_while_the_study_ran_is_used_once_the_named_file_is_removed(
    tmp_path: Path,
) -> None:
    """As by `cp -r`, which may copy the head after the segments."""
    folder, copy = StudyFolder(tmp_path / "first"), StudyFolder(tmp_path / "copy")
    append(folder, 3)
    shutil.copytree(folder.local, copy.local)
    append(folder, 2)
    shutil.copy(folder.path(folder.JOURNAL_HEAD), copy.path(copy.JOURNAL_HEAD))
    with pytest.raises(StudyError, match="a copy made while the study ran: remove") as rejected:
        open_journal(copy)
    path = str(rejected.value).partition(": remove ")[2]
    assert path == copy.path(copy.JOURNAL_HEAD)
    Path(path).unlink()
    append(copy, 1)
    assert len(open_journal(copy).events) == 4


def test_a_head_is_written_once_its_events_survive_a_power_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk may keep the head, and lose the new name of a segment in a folder not synced."""
    folder = StudyFolder(tmp_path / "first")
    append(folder, 1)
    journal, heads = open_journal(folder), head_files(folder, "id")
    sync, steps = os.fsync, []

    def record(descriptor: int) -> None:
        sync(descriptor)
        if os.path.samestat(os.fstat(descriptor), (folder.local / "journal").stat()):
            segment = folder.read("journal/000000000.jsonl")
            known = {head.num_events for file in heads if (head := file.read())}
            steps.append((segment.count(b"\n") - 1, known))

    monkeypatch.setattr(os, "fsync", record)
    journal.append(TrialWarning("t0000", "x"))
    assert steps == [(2, {1})]
    assert [head.num_events for file in heads if (head := file.read())] == [2, 2]


def test_a_segment_that_an_old_list_of_files_lacks_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network file system may show such a list for a minute."""
    folder = StudyFolder(tmp_path / "first")
    append(folder, 2 * MAX_SEGMENT_EVENTS + 5)
    names = Folder.names
    monkeypatch.setattr(Folder, "names", lambda *arguments: names(*arguments)[:1])
    assert len(open_journal(folder).events) == 2 * MAX_SEGMENT_EVENTS + 5


@pytest.mark.parametrize("num_old", [1, 2])
def test_a_journal_that_seems_older_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_old: int
) -> None:
    """A network file system may show the old content of a file for some seconds."""
    folder, name = StudyFolder(tmp_path / "first"), "journal/000000000.jsonl"
    append(folder, 5)
    old = folder.read(name)
    append(folder, MAX_SEGMENT_EVENTS)
    contents, read = iter([old] * num_old), Folder.read

    def read_old(place: Folder, file: str, max_bytes: int | None = None) -> bytes:
        content = read(place, file, max_bytes)
        return next(contents, content) if name.endswith(file) else content

    monkeypatch.setattr(Folder, "read", read_old)
    if num_old == 1:
        assert len(stored_study.open_journal(folder, "id").events) == MAX_SEGMENT_EVENTS + 5
    else:
        with pytest.raises(StudyError, match="not the next segment of the journal"):
            stored_study.open_journal(folder, "id")


def test_an_object_store_gets_one_file_for_a_fold_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its head follows with the next other event; the cache has it at once."""
    folder = StudyFolder(f"memory://{tmp_path}/first")
    append(folder, 2)
    journal, heads = open_journal(folder), head_files(folder, "id")
    written, write = [], Folder.write

    def record(place: Folder, name: str, content: bytes) -> None:
        if not place.is_local:
            written.append(name)
        write(place, name, content)

    monkeypatch.setattr(Folder, "write", record)
    report = FoldReport("t0000", 0, 1, 0.5, {}, 1.0, 0.5)
    for _ in range(3):
        journal.append(report)
    assert written == ["000000000.jsonl"] * 3
    assert [head.num_events for file in heads if (head := file.read())] == [2, 5]
    journal.append(TrialWarning("t0000", "x"))
    assert written[3:] == ["000000000.jsonl", folder.JOURNAL_HEAD]
    for _ in range(MAX_SEGMENT_EVENTS - 5):
        journal.append(report)
    assert written.count(folder.JOURNAL_HEAD) == 2
    assert [head.num_events for file in heads if (head := file.read())] == [65, 65]
    assert len(open_journal(folder).events) == 65


def test_a_head_that_is_behind_or_damaged_is_no_error(folder: StudyFolder) -> None:
    """A launcher that is killed between an append and the head leaves an older head."""
    append(folder, 3)
    files = head_files(folder, "id")
    older = [file.folder.read(file.name) for file in files]
    append(folder, 1)
    damaged = [b"", b"x", older[0][:-1], older[0].replace(b"3 events", b"9 events")]
    for content in (*damaged, *older):
        for file in files:
            file.folder.write(file.name, content)
        assert len(open_journal(folder).events) == 4
    append(folder, 1)
    heads = [file.read() for file in files]
    assert [head.num_events for head in heads if head is not None] == [5, 5]


def test_a_cache_that_cannot_be_used_is_no_error(
    folder: StudyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(VARIABLE, str(tmp_path / "file" / "cache"))
    append(folder, 2)
    assert len(open_journal(folder).events) == 2


def test_a_launcher_killed_at_any_moment_causes_no_false_alarm(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "first")
    num_events = 0
    for _ in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", LAUNCHER, folder.address],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert process.stdout is not None
        assert int(process.stdout.readline()) == num_events
        while not folder.exists(folder.JOURNAL_HEAD):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        num_events = len(open_journal(folder).events)
    assert num_events > 0
    (head, *_others) = [file.read() for file in head_files(folder, "id")]
    assert head is not None
    assert num_events - 1 <= head.num_events <= num_events


@pytest.mark.parametrize(
    "name", ["notes.txt", ".nfs0001", ".DS_Store", ".000000000.jsonl.swp", "000000000.jsonl~"]
)
def test_a_file_that_is_no_segment_is_ignored(folder: StudyFolder, name: str) -> None:
    append(folder, 2)
    folder.write(f"journal/{name}", b"not a segment\n")
    append(folder, 1)
    assert len(open_journal(folder).events) == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"raysearch journal 9: 2 events, the last 00\nx\n", "journal format 9, but .* update"),
        (b"raysearch journal v9 zstd\n\x00\x01\x02", "journal format 9, but .* update raysearch"),
        (b'{"raysearch": "journal", "format": 12}\n{}\n', "journal format 12, but .* update"),
        (b"raysearch journal 2: 1 events, the last 00\n", "journal format 2, .* that launched"),
        (b"\x28\xb5\x2f\xfd", "damaged or of a newer version of raysearch; restore"),
    ],
)
def test_a_journal_of_another_format_is_named(
    folder: StudyFolder, content: bytes, message: str
) -> None:
    folder.write("journal/000000000.jsonl", content)
    with pytest.raises(StudyError, match=message) as rejected:
        open_journal(folder)
    assert "\n" not in str(rejected.value)


def test_a_damaged_format_number_is_not_another_format(folder: StudyFolder) -> None:
    append(folder, 2)
    name = "journal/000000000.jsonl"
    folder.write(
        name,
        folder.read(name).replace(
            f"journal {FORMAT}".encode(), f"journal {FORMAT + 1}".encode(), 1
        ),
    )
    with pytest.raises(StudyError, match="truncated, or its first line is damaged"):
        open_journal(folder)


@pytest.mark.parametrize("change", ["removed", "older", "moved"])
def test_a_study_reads_no_older_state(shards: Path, tmp_path: Path, change: str) -> None:
    """By every reader, and at a resume; a study that was moved is read."""
    study = new_study(shards, tmp_path / "studies" / "first")
    old = tmp_path / "old"
    shutil.copytree(study.folder.local, old)
    study.warn(next_searched(study).id, "x")
    path = study.folder.local
    if change == "removed":
        (path / "journal" / "000000000.jsonl").unlink()
    else:
        shutil.move(path, tmp_path / "newer")
        shutil.move(old if change == "older" else tmp_path / "newer", path)
    readers: list[Callable[[], object]] = [
        lambda: load_study(study.folder),
        lambda: Study(study.folder, read_plan(study.folder)),
    ]
    for read in readers:
        if change == "moved":
            assert read()
            continue
        with pytest.raises(StudyError, match="the journal ends after"):
            read()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 99, "more": 1}, r"plan format 99, but .* reads format \d+; update raysearch"),
        ({"format": 99, "hash": None}, "plan format 99, but .*; update raysearch"),
        ({"format": 1}, "plan format 1, but .* use the version that launched"),
        ({"name": "other"}, "damaged; restore the plan"),
        ({"format": "x"}, "damaged; restore the plan"),
    ],
)
def test_a_plan_of_another_format_is_named_whatever_its_hash(
    shards: Path, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    import json

    folder = new_study(shards, tmp_path / "studies" / "first").folder
    content = json.loads(folder.read(folder.PLAN))
    assert content["format"] == PLAN_FORMAT
    changed = {**content, **change, **({} if change.keys() == {"name"} else {"name": "b"})}
    folder.write(folder.PLAN, json.dumps(changed).encode())
    with pytest.raises(StudyError, match=message) as rejected:
        read_plan(folder)
    assert "\n" not in str(rejected.value)


def test_a_head_is_read_as_written() -> None:
    head = JournalHead(7, "0123456789abcdef")
    assert JournalHead.decode(head.encode()) == head
    assert len(head.encode()) == len(JournalHead(10**9, "0" * 16).encode())
