"""The private folder and the settings of a local Ray."""

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from raysearch.data.atomic_directory import exclusive_lock
from raysearch.errors import StudyError
from raysearch.search.engine import local_ray
from raysearch.search.engine.local_ray import PREFIX, private_ray, restrict_token_file
from support.small_disks import small_disk

VARIABLES = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER")


@pytest.fixture
def short_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of this test under a short path, as RAY_TMPDIR."""
    path = Path(f"/tmp/rs{os.getpid()}")
    path.mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(path))
    yield path
    path.rmdir()


def test_each_run_has_its_own_token_and_folder(
    short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    before = {name: os.environ.get(name) for name in VARIABLES}
    tokens = set()
    for _run in range(2):
        with private_ray() as folder:
            assert os.environ["RAY_AUTH_MODE"] == "token"
            tokens.add(os.environ["RAY_AUTH_TOKEN"])
            assert folder.parent.parent == short_path
            assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
        assert {name: os.environ.get(name) for name in VARIABLES} == before
        assert list(short_path.iterdir()) == []
    assert len(tokens) == 2
    assert {len(token) for token in tokens} == {64}


def test_folders_of_killed_launchers_are_removed(short_path: Path) -> None:
    abandoned, locked = (short_path / f"{PREFIX}{name}" for name in ("abandone", "locked__"))
    other = short_path / f"{PREFIX}of-another-program"
    for path in (abandoned, locked, other):
        (path / "r").mkdir(parents=True)
    with exclusive_lock(locked), private_ray() as folder:
        names = {path.name for path in short_path.iterdir()}
    assert names == {locked.name, other.name, folder.parent.name}
    for path in (locked, other):
        (path / "r").rmdir()
        path.rmdir()


def test_a_full_disk_of_rays_files_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_ray, "MAX_BASE_LENGTH", 200)
    with small_disk(tmp_path / "disk", "1m") as disk:
        monkeypatch.setenv("RAY_TMPDIR", str(disk))
        with pytest.raises(StudyError, match=r"disk: 1,.* bytes are free, .*RAY_TMPDIR"):
            private_ray().__enter__()
        assert list(disk.iterdir()) == []


def test_a_long_path_is_not_used_because_of_the_limit_of_sockets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / ("long" * 20)))
    with private_ray() as folder:
        assert folder.parent.parent == Path("/tmp")
        # As Ray names its sockets, with the greatest number of a process.
        session = "session_2026-11-30_08-13-10_018861_4194304"
        folder.joinpath(session, "sockets").mkdir(parents=True)
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(folder / session / "sockets" / "plasma_store"))


def test_the_longest_path_that_is_used_has_room_for_the_sockets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base = Path("/tmp/" + "x" * 20)
    base.mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(base))
    try:
        with private_ray() as folder:
            assert folder.parent.parent == base
            session = "session_2026-11-30_08-13-10_018861_4194304"
            assert len(str(folder / session / "sockets" / "plasma_store")) == 107
    finally:
        base.rmdir()


def test_the_token_file_is_closed_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    restrict_token_file()
    token = tmp_path / ".ray" / "auth_token"
    token.parent.mkdir()
    token.write_text("token")
    token.chmod(0o644)
    restrict_token_file()
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert token.read_text() == "token"
