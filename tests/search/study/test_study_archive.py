"""A study is exported as one file, and imported unchanged or not at all."""

import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from raysearch.cli import run
from raysearch.config.addresses import ALLOW_VARIABLE
from raysearch.errors import DataError, StudyError
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study import stored_study
from raysearch.search.study.launcher_lock import launcher_lock
from raysearch.search.study.plan import load_plan
from raysearch.search.study.stored_study import load_study
from raysearch.search.study.study import Study
from raysearch.search.study.study_archive import CONTENTS, export_archive, import_archive
from support.result_studies import new_study, next_searched


def no_progress(_done: int, _total: int) -> None:
    pass


@pytest.fixture
def archive(small_champion_study: Study, tmp_path: Path) -> Path:
    path = tmp_path / "first.zip"
    export_archive(small_champion_study.folder, path, no_progress)
    return path


def test_an_imported_study_has_the_same_files(
    small_champion_study: Study, archive: Path, tmp_path: Path
) -> None:
    folder = import_archive(archive, str(tmp_path / "others"), no_progress)
    original = small_champion_study.folder
    names = [name for name in original.file_names() if name != original.LOCK]
    assert folder.file_names() == names
    assert all(folder.read(name) == original.read(name) for name in names)
    assert load_study(folder).history.champion == small_champion_study.history.champion
    assert archive.stat().st_mode & 0o077 == 0


def test_a_study_is_restored_from_an_archive_of_an_older_state(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user's cache knows the newer state at this address, which the import replaces."""
    monkeypatch.setattr(stored_study, "REREAD_S", 0.0)
    study = new_study(shards, tmp_path / "studies" / "first")
    trial = next_searched(study)
    num_events = len(study.journal.events)
    export_archive(study.folder, tmp_path / "first.zip", no_progress)
    for _ in range(3):
        study.warn(trial.id, "x")
    study.folder.remove()
    folder = import_archive(tmp_path / "first.zip", str(tmp_path / "studies"), no_progress)
    assert len(load_study(folder).events) == num_events
    restored = Study(folder, study.plan)
    older = folder.read("journal/000000000.jsonl")
    restored.warn(trial.id, "x")
    folder.write("journal/000000000.jsonl", older)
    with pytest.raises(StudyError, match="the journal ends after"):
        load_study(folder)


def test_the_archive_goes_through_an_object_store(
    small_champion_study: Study, archive: Path
) -> None:
    folder = import_archive(archive, "memory://imported", no_progress)
    assert folder.address == "memory://imported/first"
    assert load_study(folder).history.champion == small_champion_study.history.champion


@pytest.mark.usefixtures("studies")
def test_the_commands_export_and_import(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["studies", "export", "first", "first.zip"]) == 0
    assert "first.zip" in capsys.readouterr().out
    assert run(["studies", "export", "first", "first.zip"]) == 2
    assert "first.zip: the file exists" in capsys.readouterr().err
    assert run(["studies", "import", "first.zip"]) == 2
    assert "exists already" in capsys.readouterr().err
    assert run(["studies", "import", "first.zip", "--studies", "others"]) == 0
    assert run(["status", "first", "--studies", "others", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["state"] == "ended"
    assert run(["studies", "import", "none.zip"]) == 2
    assert "none.zip: no such file" in capsys.readouterr().err
    assert run(["studies", "export", "none", "none.zip"]) == 2
    assert not (tmp_path / "none.zip").exists()


def test_a_running_study_is_not_exported(small_champion_study: Study, tmp_path: Path) -> None:
    folder = small_champion_study.folder
    with launcher_lock(folder), pytest.raises(StudyError, match="raysearch stop first"):
        export_archive(folder, tmp_path / "x.zip", no_progress)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("studies")
def test_files_that_no_study_has_are_left_out(
    small_champion_study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = StudyFolder(tmp_path / "studies" / "first")
    shutil.copytree(small_champion_study.folder.local, folder.local)
    for name in ("journal/.nfs0001", "report (1).html", CONTENTS):
        folder.write(name, b"stray")
    options = ["--studies", str(folder.local.parent)]
    assert run(["studies", "export", "first", "first.zip", *options]) == 0
    assert "Left out: 3 files that no study has, such as" in capsys.readouterr().out
    imported = import_archive(tmp_path / "first.zip", str(tmp_path / "others"), no_progress)
    assert load_study(imported).history.champion == small_champion_study.history.champion


def rewrite(archive: Path, change: Callable[[str, bytes], tuple[str, bytes] | None]) -> Path:
    """Return a copy of the archive with each file changed by `change`; None leaves it out."""
    path = archive.with_name("changed.zip")
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            changed = change(name, source.read(name))
            if changed is not None:
                target.writestr(*changed)
    return path


def set_contents(**fields: object) -> Callable[[str, bytes], tuple[str, bytes]]:
    def change(name: str, content: bytes) -> tuple[str, bytes]:
        if name == CONTENTS:
            content = json.dumps(json.loads(content) | fields).encode()
        return name, content

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda name, content: (name, content[:-1] + b"x"), "damaged"),
        (lambda name, content: None if name == "splits.json" else (name, content), "its files are"),
        (lambda name, content: (f"../{name}", content), "not an archive of a study"),
        (lambda name, content: None if name == CONTENTS else (name, content), "not an archive"),
        (set_contents(name="../up"), "its files are not those of its list"),
        (set_contents(name=3), "not an archive|name"),
        (set_contents(files={"plan.json": "0"}), "its files are not those of its list"),
        (set_contents(format=2), "archive format 2"),
    ],
)
def test_a_changed_archive_is_rejected_and_leaves_nothing(
    archive: Path,
    tmp_path: Path,
    change: Callable[[str, bytes], tuple[str, bytes] | None],
    message: str,
) -> None:
    with pytest.raises(StudyError, match=message):
        import_archive(rewrite(archive, change), str(tmp_path / "others"), no_progress)
    others = StudyFolder(tmp_path / "others")
    assert others.names() == []


@pytest.mark.parametrize(
    ("compressed", "message"),
    [(CONTENTS, "its list of files is compressed"), ("plan.json", "its files are not those of")],
)
def test_a_compressed_archive_is_rejected(
    archive: Path, tmp_path: Path, compressed: str, message: str
) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            kind = zipfile.ZIP_DEFLATED if name == compressed else zipfile.ZIP_STORED
            target.writestr(name, source.read(name), kind)
    with pytest.raises(StudyError, match=message):
        import_archive(path, str(tmp_path / "others"), no_progress)


def test_an_offset_before_the_start_of_the_archive_is_damage(archive: Path, tmp_path: Path) -> None:
    content = bytearray(archive.read_bytes())
    # The offset of the central directory in the end record, of 22 bytes.
    content[-6:-2] = (2**32 - 2).to_bytes(4, "little")
    path = tmp_path / "damaged.zip"
    path.write_bytes(content)
    with pytest.raises(StudyError, match="not an archive of a study, or damaged"):
        import_archive(path, str(tmp_path / "others"), no_progress)


def test_a_file_that_is_no_archive_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    for content in (b"", b"PK\x03\x04", b"text"):
        path.write_bytes(content)
        with pytest.raises(StudyError, match="not an archive of a study"):
            import_archive(path, str(tmp_path / "others"), no_progress)


def test_the_data_of_an_imported_study_is_at_no_remote_address_that_is_not_allowed(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(archive) as source:
        plan = load_plan(source.read(StudyFolder.PLAN))
    content = replace(plan, data="s3://bucket/shards").dump()
    sha256 = hashlib.sha256(content).hexdigest()

    def move_data(name: str, old_content: bytes) -> tuple[str, bytes]:
        if name == CONTENTS:
            fields = json.loads(old_content)
            fields["files"][StudyFolder.PLAN] = sha256
            return name, json.dumps(fields).encode()
        return name, content if name == StudyFolder.PLAN else old_content

    path = rewrite(archive, move_data)
    with pytest.raises(DataError, match=r"s3://bucket/shards: the study in .* names this address"):
        import_archive(path, str(tmp_path / "others"), no_progress)
    assert StudyFolder(tmp_path / "others").names() == []
    monkeypatch.setenv(ALLOW_VARIABLE, "1")
    folder = import_archive(path, str(tmp_path / "others"), no_progress)
    assert load_study(folder).plan.data == "s3://bucket/shards"
