"""`raysearch studies delete`: its question, what it removes, and what it leaves."""

from __future__ import annotations

import json
import os
import pty
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.entities import ViewType
from mlflow.tracking import MlflowClient

from raysearch.cli import run
from raysearch.data.files import Folder
from raysearch.search.journal.journal_head import head_files
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study import study_deletion
from raysearch.search.study.launcher_lock import launcher_lock
from raysearch.search.study.study import Study
from raysearch.search.tracking.run_deletion import StudyDeletion
from raysearch.search.tracking.tracker import Tracker
from support.empty_tracking_store import add_tracking_store
from support.result_studies import new_study, train_next

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a tracking store of its own."""
    monkeypatch.chdir(tmp_path)
    add_tracking_store(tmp_path, "runs.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/runs.db")
    return tmp_path


def tracked(study: Study) -> str:
    """Send the events of a study to the store; return the id of its parent run."""
    tracker = Tracker(study.plan, os.environ["MLFLOW_TRACKING_URI"])
    for event in study.journal.events:
        tracker.send(event)
    assert tracker.close("FINISHED", 60) is None
    return tracker.parent_run_id


def client() -> MlflowClient:
    store = os.environ["MLFLOW_TRACKING_URI"]
    return MlflowClient(tracking_uri=store, registry_uri=store)


def active_runs(name: str) -> set[str]:
    """Return the identities of the studies that have runs in the experiment `name`."""
    experiment = client().get_experiment_by_name(name)
    if experiment is None:
        return set()
    runs = client().search_runs([experiment.experiment_id])
    return {run.data.tags["raysearch.plan"] for run in runs}


def register_version(study: Study, run_id: str, name: str) -> str:
    """Register a version of the model `name` from a run, without files."""
    if not client().search_registered_models(f"name = '{name}'"):
        client().create_registered_model(name)
    version = client().create_model_version(name, f"{study.folder.address}/none", run_id)
    return str(version.version)


def test_a_study_is_deleted_with_its_runs_and_models_and_nothing_else(
    shards: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deleted = new_study(shards, place / "studies" / "first")
    namesake = new_study(shards, place / "others" / "first")
    neighbor = new_study(shards, place / "studies" / "second")
    for study in (deleted, namesake, neighbor):
        train_next(study, 1)
    runs = {study.plan.identity: tracked(study) for study in (deleted, namesake, neighbor)}
    register_version(deleted, runs[deleted.plan.identity], "first")
    kept = register_version(namesake, runs[namesake.plan.identity], "first")
    (place / "studies" / "first" / "notes.txt").write_text("mine")
    (cached,) = head_files(deleted.folder, deleted.plan.identity)[1:]
    assert Path(cached.path).exists()
    assert run(["studies", "delete", "first", "--yes", "--json"]) == 0
    output = capsys.readouterr()
    (record,) = json.loads(output.out)["deleted"]
    assert (record["study"], record["num_runs"], record["model_versions"]) == ("first", 3, ["1"])
    assert record["num_files"] > 3
    assert "1 names that no study has among them (notes.txt)" in output.err
    assert "3 MLflow runs and 1 model versions in sqlite:///" in output.err
    assert Folder(place / "studies").names() == ["second"]
    assert not Path(cached.path).exists()
    assert namesake.folder.exists(namesake.folder.PLAN)
    assert active_runs("first") == {namesake.plan.identity}
    assert active_runs("second") == {neighbor.plan.identity}
    (version,) = client().search_model_versions("name = 'first'")
    assert str(version.version) == kept


def test_every_name_of_a_studys_folder_is_known() -> None:
    names = {value for name, value in vars(StudyFolder).items() if name.isupper()}
    assert names - {StudyFolder.RESERVED_BYTES} == study_deletion.KNOWN_NAMES


@pytest.mark.parametrize("inside", ["first", "first/journal"])
def test_nothing_is_deleted_if_a_study_contains_the_working_directory(
    shards: Path,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    inside: str,
) -> None:
    for name in ("first", "second"):
        new_study(shards, place / "studies" / name)
    monkeypatch.chdir(place / "studies" / inside)
    command = ["studies", "delete", "second", "first", "--yes", "--studies", str(place / "studies")]
    assert run(command) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"raysearch: {place}/studies/first: contains the working directory")
    assert error.count("\n") == 1
    for name in ("first", "second"):
        folder = StudyFolder(place / "studies" / name)
        assert folder.exists(folder.PLAN)


def test_a_new_study_can_have_the_name_of_a_deleted_one(shards: Path, place: Path) -> None:
    for _round in range(2):
        study = new_study(shards, place / "studies" / "again")
        train_next(study, 1)
        run_id = tracked(study)
        register_version(study, run_id, "again")
        assert active_runs("again") == {study.plan.identity}
        assert run(["studies", "delete", "again", "--yes"]) == 0
        assert active_runs("again") == set()
        assert not client().search_registered_models("name = 'again'")
    names = [found.name for found in client().search_experiments(ViewType.DELETED_ONLY)]
    assert len(names) == len(set(names)) == 2
    assert all(name.startswith("again (deleted ") for name in names)


@pytest.mark.parametrize("place_of_interrupt", ["rename_experiment", "delete_experiment", "files"])
def test_an_interrupted_deletion_is_completed_by_the_same_command(
    shards: Path, place: Path, monkeypatch: pytest.MonkeyPatch, place_of_interrupt: str
) -> None:
    study = new_study(shards, place / "studies" / "first")
    train_next(study, 1)
    tracked(study)

    def interrupt(*_arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if place_of_interrupt == "files":
            patch.setattr(study_deletion, "head_files", interrupt)
        else:
            patch.setattr(MlflowClient, place_of_interrupt, interrupt)
        assert run(["studies", "delete", "first", "--yes"]) == 130
    assert run(["studies", "delete", "first", "--yes"]) == 0
    assert Folder(place / "studies").names() == []
    active = [found.name for found in client().search_experiments(ViewType.ACTIVE_ONLY)]
    assert active == ["Default"]


def test_an_experiment_that_was_deleted_before_gives_up_its_name(shards: Path, place: Path) -> None:
    study = new_study(shards, place / "studies" / "first")
    train_next(study, 1)
    tracked(study)
    experiment = client().get_experiment_by_name("first")
    assert experiment is not None
    client().delete_experiment(experiment.experiment_id)
    assert run(["studies", "delete", "first", "--yes"]) == 0
    assert client().get_experiment_by_name("first") is None
    (deleted,) = client().search_experiments(ViewType.DELETED_ONLY)
    assert not client().search_runs([deleted.experiment_id])


def test_a_running_study_is_not_deleted(
    shards: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("first", "second"):
        train_next(new_study(shards, place / "studies" / name), 1)
    with launcher_lock(StudyFolder(place / "studies" / "second")):
        assert run(["studies", "delete", "first", "second", "--yes"]) == 2
    assert "study 'second' is being run by process" in capsys.readouterr().err
    assert Folder(place / "studies").names() == ["first", "second"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["none"], "no study 'none' in"),
        (["../first"], "'../first': not the name of a study"),
        (["link"], "a link to "),
        (["folder"], "no study 'folder' in"),
        (["first"], "nobody can be asked, because the input is no terminal; add --yes"),
    ],
)
def test_what_is_not_deleted_is_named_in_one_line(
    shards: Path,
    place: Path,
    capsys: pytest.CaptureFixture[str],
    names: list[str],
    message: str,
) -> None:
    new_study(shards, place / "studies" / "first")
    (place / "studies" / "link").symlink_to(place / "studies" / "first")
    (place / "studies" / "folder").mkdir()
    (place / "studies" / "folder" / "notes.txt").write_text("mine")
    before = sorted(place.rglob("*"))
    assert run(["studies", "delete", *names]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert sorted(place.rglob("*")) == before


def test_a_study_whose_plan_is_damaged_is_deleted_and_its_runs_stay(
    shards: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = new_study(shards, place / "studies" / "first")
    tracked(study)
    study.folder.write(study.folder.PLAN, b"{")
    assert run(["studies", "delete", "first", "--yes"]) == 0
    assert "its plan cannot be read, so its MLflow runs are not known" in capsys.readouterr().out
    assert Folder(place / "studies").names() == []
    assert active_runs("first") == {study.plan.identity}


def test_a_store_that_cannot_be_used_is_one_line_and_its_runs_can_be_kept(
    shards: Path,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    new_study(shards, place / "studies" / "first")
    (place / "damaged.db").write_bytes(b"no database" * 100)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place}/damaged.db")
    assert run(["studies", "delete", "first", "--yes"]) == 2
    error = capsys.readouterr().err
    assert "--keep-runs leaves the study's runs where they are" in error
    assert error.count("\n") == 1
    assert run(["studies", "delete", "first", "--yes", "--keep-runs"]) == 0
    assert "its MLflow runs stay" in capsys.readouterr().out
    assert Folder(place / "studies").names() == []


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A terminal as standard input; its other end."""
    seen, used = pty.openpty()
    with os.fdopen(used) as standard_input:
        monkeypatch.setattr("sys.stdin", standard_input)
        yield seen
    os.close(seen)


@pytest.mark.parametrize(("answer", "code"), [(b"n\n", 1), (b"y\n", 0)])
def test_the_user_is_asked(
    shards: Path,
    place: Path,
    terminal: int,
    capsys: pytest.CaptureFixture[str],
    answer: bytes,
    code: int,
) -> None:
    new_study(shards, place / "studies" / "first")
    os.write(terminal, answer)
    assert run(["studies", "delete", "first"]) == code
    output = capsys.readouterr()
    assert "first: " in output.out
    assert ("Nothing is deleted" in output.out) == bool(code)
    assert Folder(place / "studies").names() == (["first"] if code else [])


def test_a_study_on_an_object_store_is_deleted(
    shards: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raysearch.search.study.lease_lock.SETTLE_S", 0.0)
    study = new_study(shards, place / "studies" / "first")
    remote = Folder("memory://deleted-studies")
    for name in study.folder.file_names():
        remote.write(f"first/{name}", study.folder.read(name))
    remote.write("second/plan.json", b"{}")
    assert run(["studies", "delete", "first", "--yes", "--studies", remote.address]) == 0
    assert remote.names() == ["second"]
    remote.remove()


def test_a_store_that_does_not_exist_is_not_created(place: Path) -> None:
    deletion = StudyDeletion(f"sqlite:///{place}/none.db", "first", "identity")
    assert deletion.find().num_runs == 0
    deletion.delete()
    assert not (place / "none.db").exists()
