"""Pseudonyms: HMAC-SHA256 under a key that only its owner can read."""

from __future__ import annotations

import grp
import hashlib
import hmac
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysearch.data.file_access import SHARED_GROUP
from raysearch.data.files import Folder
from raysearch.data.pseudonyms import (
    FILE,
    PATIENT,
    SLIDE,
    SOURCE,
    DisplayedNames,
    PseudonymKey,
    existing_key_in,
    key_in,
    last_part,
    read_key_file,
    without_folders,
)
from raysearch.errors import DataError

KEY = PseudonymKey(bytes(range(32)))


def test_a_pseudonym_begins_like_the_hmac_of_the_identifier() -> None:
    expected = hmac.new(bytes(range(32)), b"patient\0" + b"8863", hashlib.sha256).hexdigest()
    assert KEY.digest(PATIENT, "8863") == expected
    assert KEY.pseudonym(PATIENT, "8863") == f"P-{expected[:16].upper()}"
    assert KEY.pseudonym(PATIENT, "8863", 6) == f"P-{expected[:6].upper()}"


def test_no_plain_hash_and_no_other_key_gives_a_pseudonym() -> None:
    digest = KEY.digest(PATIENT, "8863")
    for name in (f"{number}" for number in range(8000, 9000)):
        for text in (name, f"patient\0{name}"):
            assert hashlib.sha256(text.encode()).hexdigest() != digest
    assert PseudonymKey.random().digest(PATIENT, "8863") != digest
    assert "secret" not in repr(KEY)
    assert KEY.secret.hex() not in KEY.id


@given(st.sets(st.text(min_size=1), min_size=2))
def test_different_names_have_different_pseudonyms(names: set[str]) -> None:
    assert len({KEY.pseudonym(PATIENT, name) for name in names}) == len(names)


def test_kinds_do_not_share_pseudonyms_and_unknown_names_stay_empty() -> None:
    digests = {KEY.digest(kind, "7") for kind in (PATIENT, SLIDE, FILE, SOURCE)}
    assert len(digests) == 4
    assert KEY.pseudonym(SLIDE, "") == ""


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("8863/0/a.PNG", ".PNG"),
        ("train.h5#12", ".h5"),
        ("idc.tar.gz", ".gz"),
        ("scan.Smith", ""),
        ("Smith", ""),
    ],
)
def test_a_file_keeps_a_known_suffix_only(name: str, suffix: str) -> None:
    pseudonym = KEY.pseudonym(FILE, name)
    assert pseudonym[18:] == suffix
    assert pseudonym.startswith("F-")


def test_a_name_that_is_not_utf8_has_a_pseudonym() -> None:
    assert KEY.pseudonym(FILE, "a\udcff.png").endswith(".png")


def test_a_key_file_is_created_for_its_owner_only_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "key"
    key = read_key_file(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["key"]
    assert read_key_file(path) == key


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o660, 0o602])
def test_a_key_that_others_can_read_is_rejected_in_one_line(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key"
    read_key_file(path)
    path.chmod(mode)
    with pytest.raises(DataError, match="other users can read or write this key") as error:
        read_key_file(path)
    assert f"{mode:04o}" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"secret", b"0" * 63, b"0" * 65, b"\xff" * 64])
def test_a_file_without_a_key_is_rejected(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.touch(0o600)
    path.write_bytes(content)
    with pytest.raises(DataError, match="not a key of pseudonyms"):
        read_key_file(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(DataError, match="cannot be used as key file"):
        read_key_file(path)


def test_a_folder_keeps_one_key(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    assert existing_key_in(folder, "k") is None
    key = key_in(folder, "k")
    assert key_in(folder, "k") == key == existing_key_in(folder, "k")
    assert stat.S_IMODE((tmp_path / "k").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/smith/data/idc: no such folder; give", "idc: no such folder; give"),
        ("cannot read '/a/b c.png' (x)", "cannot read 'b c.png' (x)"),
        ("auxiliary s3://bucket/smith/secm: 3 left", "auxiliary secm: 3 left"),
        ("choice /w/uni.pt, /w/x/conch.pth", "choice uni.pt, conch.pth"),
        ("patches/s, 3/4 of data/idc, 1 / 2", "patches/s, 3/4 of data/idc, 1 / 2"),
    ],
)
def test_a_message_keeps_the_name_of_a_file_and_not_its_folders(text: str, expected: str) -> None:
    assert without_folders(text) == expected


def test_a_folder_with_a_space_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "John Smith"
    monkeypatch.setenv("HOME", str(home))
    assert without_folders(f"{home}/w.pt is damaged") == "w.pt is damaged"


def test_displayed_names_are_pseudonyms_or_with_no_key_the_identifiers() -> None:
    shown, own = DisplayedNames(KEY), DisplayedNames(None)
    leak = "patient John: Smith: both sides of 5-fold, fold 2"
    patient = shown.patient("John: Smith")
    assert shown.message(leak) == f"patient {patient}: both sides of 5-fold, fold 2"
    assert patient == KEY.pseudonym(PATIENT, "John: Smith", 10)
    assert own.message(leak) == leak
    assert (own.patient("7"), own.source("/a/b.zip"), last_part("s3://x/y/")) == ("7", "b.zip", "y")
    assert shown.source("/a/b.zip").endswith(".zip")


def test_the_key_of_a_shared_study_is_shared_and_a_key_file_never(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SHARED_GROUP, grp.getgrgid(os.getegid()).gr_name)
    folder = Folder(tmp_path / "study")
    folder.write("plan.json", b"{}")
    key = key_in(folder, "key")
    assert key_in(folder, "key") == key
    assert stat.S_IMODE((tmp_path / "study" / "key").stat().st_mode) == 0o660
    read_key_file(tmp_path / "own")
    assert stat.S_IMODE((tmp_path / "own").stat().st_mode) == 0o600
