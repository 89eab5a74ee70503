"""The permissions of new and existing files: closed to others, or shared with a group."""

import grp
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from raysearch.data.atomic_directory import atomic_directory
from raysearch.data.file_access import (
    SHARED_GROUP,
    create_file,
    create_folder,
    open_lock_file,
    open_log,
    process_umask,
    restrict,
    restrict_tree,
    write_file,
)
from raysearch.data.files import Folder
from raysearch.errors import DataError
from support.other_accounts import umask


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(params=[0, 0o022, 0o077])
def _any_umask(request: pytest.FixtureRequest) -> Iterator[None]:
    with umask(request.param):
        yield


@pytest.mark.usefixtures("_any_umask")
def test_new_files_and_folders_are_closed_whatever_the_umask(tmp_path: Path) -> None:
    Folder(tmp_path / "study").write("journal/1.jsonl", b"1")
    create_folder(tmp_path / "a" / "b")
    write_file(tmp_path / "a" / "page.html", b"page")
    open_log(tmp_path / "a" / "logs" / "launch.log").close()
    with atomic_directory(tmp_path / "set") as partial:
        (partial / "splits").mkdir()
        (partial / "splits").chmod(0o755)
        (partial / "part").write_bytes(b"1")
    paths = [path for path in tmp_path.rglob("*") if path != tmp_path]
    assert {mode(path) for path in paths if path.is_file()} == {0o600}
    assert {mode(path) for path in paths if path.is_dir()} == {0o700}
    assert len(paths) == 11


def test_a_group_is_shared_by_everything_below_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = os.getegid()
    monkeypatch.setenv(SHARED_GROUP, grp.getgrgid(group).gr_name)
    assert process_umask() == 0o007
    create_folder(tmp_path / "studies" / "first")
    monkeypatch.delenv(SHARED_GROUP)
    assert process_umask() == 0o077
    Folder(tmp_path / "studies" / "first").write("journal/1.jsonl", b"1")
    assert mode(tmp_path / "studies" / "first") == 0o2770
    assert mode(tmp_path / "studies" / "first" / "journal") == 0o2770
    assert mode(tmp_path / "studies" / "first" / "journal" / "1.jsonl") == 0o660
    # A new root is not shared because the folder that it is in is.
    create_folder(tmp_path / "studies" / "second")
    write_file(tmp_path / "studies" / "page.html", b"page")
    assert mode(tmp_path / "studies" / "second") == 0o700
    assert mode(tmp_path / "studies" / "page.html") == 0o600


def test_existing_files_are_restricted(tmp_path: Path) -> None:
    (tmp_path / "study" / "logs").mkdir(parents=True)
    (tmp_path / "study" / "plan.json").touch()
    outside = tmp_path / "outside"
    outside.touch()
    outside.chmod(0o644)
    (tmp_path / "study" / "link").symlink_to(outside)
    for path in (tmp_path / "study", tmp_path / "study" / "logs"):
        path.chmod(0o755)
    (tmp_path / "study" / "plan.json").chmod(0o644)
    restrict(tmp_path / "missing")
    restrict_tree(tmp_path / "study")
    assert mode(tmp_path / "study") == mode(tmp_path / "study" / "logs") == 0o700
    assert mode(tmp_path / "study" / "plan.json") == 0o600
    assert mode(outside) == 0o644


def test_a_group_that_does_not_exist_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SHARED_GROUP, "no-such-group")
    with pytest.raises(DataError, match="--shared no-such-group: not a group of this machine"):
        create_folder(tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_links_are_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("untouched")
    for name in ("log", "lock", "page"):
        (tmp_path / name).symlink_to(target)
    with open_log(tmp_path / "log") as file:
        file.write(b"a line\n")
    write_file(tmp_path / "page", b"page")
    with pytest.raises(OSError, match="symbolic links"):
        open_lock_file(tmp_path / "lock")
    with pytest.raises(FileExistsError):
        create_file(tmp_path / "lock")
    assert target.read_text() == "untouched"
    assert (tmp_path / "log").read_text() == "a line\n"


def test_a_log_is_appended_to(tmp_path: Path) -> None:
    for line in (b"first\n", b"second\n"):
        with open_log(tmp_path / "logs" / "launch.log") as file:
            file.write(line)
    assert (tmp_path / "logs" / "launch.log").read_text() == "first\nsecond\n"


def test_a_device_is_written_to(tmp_path: Path) -> None:
    write_file(Path("/dev/null"), b"page")
    assert Path("/dev/null").is_char_device()
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_of_a_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        create_folder(tmp_path / "file")


def test_a_secret_is_closed_also_if_files_are_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SHARED_GROUP, grp.getgrgid(os.getegid()).gr_name)
    token = tmp_path / "auth_token"
    token.write_text("secret")
    token.chmod(0o644)
    restrict(token, private=True)
    assert mode(token) == 0o600
    with create_file(tmp_path / "key", inherits=True, private=True):
        pass
    assert mode(tmp_path / "key") == 0o600


def test_a_file_with_a_second_name_is_not_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = tmp_path / "private"
    private.write_text("mine")
    private.chmod(0o600)
    (tmp_path / "shared").hardlink_to(private)
    monkeypatch.setenv(SHARED_GROUP, grp.getgrgid(os.getegid()).gr_name)
    restrict(tmp_path / "shared")
    assert mode(private) == 0o600


def test_standard_output_that_leads_to_a_file_is_written_and_not_replaced(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from raysearch.data.file_access import write_file;"
        "write_file(Path('/dev/stdout'), b'page')"
    )
    with (tmp_path / "out").open("wb") as out:
        subprocess.run([sys.executable, "-c", code], stdout=out, check=True)
    assert (tmp_path / "out").read_bytes() == b"page"
    assert Path("/dev/stdout").is_symlink()
