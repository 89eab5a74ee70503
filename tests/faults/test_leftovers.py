"""What killed processes leave is removed by the next one; running processes lose nothing."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from filelock import FileLock

from raysearch.data.atomic_directory import atomic_directory
from raysearch.data.file_access import write_file
from raysearch.data.files import Folder
from raysearch.data.pseudonyms import read_key_file
from raysearch.data.scratch_folder import scratch_folder
from raysearch.data.shards.patches import load_patches
from support.other_accounts import ACCOUNT

# Each prints the path that it works on, and works on it until it is killed.
SCRATCH = """
import sys, time
from pathlib import Path
from raysearch.data.scratch_folder import scratch_folder
with scratch_folder("rs-tune-", Path(sys.argv[1])) as path:
    (path / "content").touch()
    print(path, flush=True)
    time.sleep(600)
"""
PARTIAL_FILE = """
import sys, time, os
from pathlib import Path
from raysearch.data import file_access
def never_ends(descriptor):
    print(next(Path(sys.argv[1]).glob(".page.html.*")), flush=True)
    time.sleep(600)
os.fsync = never_ends
file_access.write_file(Path(sys.argv[1]) / "page.html", b"half")
"""


@contextmanager
def working_process(program: str, folder: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A process that runs `program`, and the path that it has created."""
    command = [sys.executable, "-c", program, str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process, Path(process.stdout.readline().strip())
    finally:
        process.kill()
        process.communicate()


def test_a_temporary_folder_remains_until_its_process_was_killed(tmp_path: Path) -> None:
    with working_process(SCRATCH, tmp_path) as (process, left):
        with scratch_folder("rs-tune-", tmp_path) as own:
            assert {path.name for path in tmp_path.iterdir()} == {left.name, own.name}
        process.kill()
        process.wait()
        with scratch_folder("rs-other-", tmp_path):
            assert (left / "content").is_file()
        with scratch_folder("rs-tune-", tmp_path) as own:
            assert list(tmp_path.iterdir()) == [own]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another account")
def test_the_folder_of_another_account_remains(tmp_path: Path) -> None:
    other = tmp_path / "rs-tune-00000000"
    other.mkdir()
    os.chown(other, ACCOUNT, ACCOUNT)
    with scratch_folder("rs-tune-", tmp_path):
        assert other.is_dir()


def test_half_a_page_of_a_killed_command_is_removed_by_the_next(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    (tmp_path / ".other.html.deadbeef").touch()
    with working_process(PARTIAL_FILE, tmp_path) as (process, left):
        write_file(page, b"whole")
        assert left.is_file()
        process.kill()
        process.wait()
        write_file(page, b"again")
    assert {path.name for path in tmp_path.iterdir()} == {"page.html", ".other.html.deadbeef"}
    assert page.read_bytes() == b"again"


def test_a_resumed_study_removes_partial_files_in_all_its_folders(tmp_path: Path) -> None:
    names = ("scores/t0000/.00001-0123abcd.parquet.deadbeef", "repeats/t0000/7/.fold-0.pt.0123abcd")
    for name in (*names, "scores/t0000/00001-0123abcd.parquet"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with atomic_directory(tmp_path / "evaluations" / "set") as written:
        Folder(tmp_path).remove_partial_files()
        assert written.is_dir()
    assert [path.name for path in tmp_path.rglob("*.*")] == ["00001-0123abcd.parquet"]


def test_pixels_of_a_killed_process_are_removed_unless_another_writes_them(
    shards: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    load_patches(str(shards), cache)
    (pixels,) = (cache / "pixels").glob("*.npy")
    pixels.unlink()
    own = pixels.with_name(f".deadbeef-{pixels.name}")
    killed, running = (pixels.with_name(f".deadbeef-{name}.npy") for name in ("killed", "running"))
    checks = [
        pixels.with_name(f".deadbeef-killed.{name}checked") for name in ("npy.", "json.0a-1.")
    ]
    for path in (own, killed, running, *checks):
        path.touch()
    with FileLock(pixels.with_name("running.lock")):
        load_patches(str(shards), cache)
    assert {path.name for path in (cache / "pixels").glob(".*")} == {running.name}


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK])
def test_a_file_system_without_locks_keeps_all_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def no_locks(_descriptor: int, _operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    left = [tmp_path / "rs-tune-00000000", tmp_path / ".out.deadbeef"]
    for folder in left:
        folder.mkdir()
    with scratch_folder("rs-tune-", tmp_path) as first, scratch_folder("rs-tune-", tmp_path):
        assert first.is_dir()
    with atomic_directory(tmp_path / "out"):
        pass
    assert set(tmp_path.iterdir()) == {*left, tmp_path / "out"}


def remove_before(monkeypatch: pytest.MonkeyPatch, method: str, folder: Path) -> list[bool]:
    """Let another process remove abandoned files before each call of a method of paths.

    Returns:
        A list that gets one entry for each call.
    """
    original, calls = getattr(Path, method), []
    program = "import sys; from pathlib import Path\n"
    program += "from raysearch.data.file_access import remove_abandoned_files\n"
    program += "remove_abandoned_files(Path(sys.argv[1]))"

    def remove_first(path: Path, *arguments: object) -> object:
        calls.append(True)
        subprocess.run([sys.executable, "-c", program, str(folder)], check=True)
        return original(path, *arguments)

    monkeypatch.setattr(Path, method, remove_first)
    return calls


def test_a_folder_is_locked_until_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = remove_before(monkeypatch, "rename", tmp_path)
    with atomic_directory(tmp_path / "out") as folder:
        (folder / "rows").touch()
    assert calls
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "rows"]


def test_a_new_key_is_locked_until_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = remove_before(monkeypatch, "hardlink_to", tmp_path)
    left = tmp_path / ".raysearch.key.deadbeef"
    left.touch()
    key = read_key_file(tmp_path / "raysearch.key")
    assert calls
    assert read_key_file(tmp_path / "raysearch.key") == key
    assert not left.exists()
