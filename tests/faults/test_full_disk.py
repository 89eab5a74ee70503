"""Full disks: one line with the path and the bytes, nothing half-written, nothing lost."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import Commands
from raysearch.champion.model_artifact import pack_model_artifact
from raysearch.champion.register import example_batch
from raysearch.champion.stored_champion import load_champion
from raysearch.data.disk_errors import disk_errors
from raysearch.data.file_access import write_file
from raysearch.errors import StudyError
from raysearch.search.journal.history import History
from raysearch.search.study.stored_study import load_study
from raysearch.search.study.study import Study
from raysearch.search.tracking.model_registry import register_champion
from raysearch.search.tracking.tracker import Tracker
from support.launched_studies import check_mlflow_has_the_history, prepare_launch, study
from support.small_disks import filled, small_disk

STDERR_IN_LOG = """
import sys
from contextlib import suppress
from pathlib import Path
from raysearch.cli.live_table import stderr_in_log
from raysearch.search.journal.study_folder import StudyFolder
disk = Path(sys.argv[1])
with stderr_in_log(StudyFolder(disk / "x")):
    with suppress(OSError), (disk / "fill").open("wb", buffering=0) as file:
        while file.write(bytes(2**16)):
            pass
    sys.stderr.write("x")  # which is flushed at the end of the block
print("on the terminal", file=sys.stderr)
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MB of our own."""
    with small_disk(tmp_path / "disk", "1m") as path:
        yield path


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_the_error_of_a_file_names_it_and_its_bytes(disk: Path) -> None:
    write_file(disk / "page.html", b"before")
    with filled(disk), pytest.raises(OSError, match="No space left") as rejected:
        write_file(disk / "page.html", bytes(123_456))
    assert rejected.value.filename == str(disk / "page.html")
    assert "its 123,456 bytes do not fit into the 0 free bytes" in str(rejected.value)
    assert (disk / "page.html").read_bytes() == b"before"
    assert names(disk) == {"page.html"}


def test_the_error_of_a_folder_names_it_if_no_file_is_named(disk: Path) -> None:
    page = disk / "page.html"
    nameless = pytest.raises(OSError, match=" 0 free bytes")
    with filled(disk), nameless as rejected, disk_errors(disk / "out"), page.open("wb") as file:
        file.write(bytes(10))
    assert rejected.value.filename == str(disk / "out")


def test_a_read_only_disk_is_named(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with pytest.raises(OSError, match="Read-only file system") as rejected:
        write_file(disk / "page.html", bytes(10))
    assert rejected.value.filename == str(disk / "page.html")


def test_a_full_disk_of_the_log_gives_standard_error_back(disk: Path) -> None:
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    process = subprocess.run(
        [sys.executable, "-c", STDERR_IN_LOG, str(disk)],
        env=buffered,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert process.stderr.endswith("on the terminal\n")


def test_shards_that_do_not_fit_leave_nothing(run: Commands, disk: Path) -> None:
    error = run("shard", "12:240:3", str(disk / "a" / "b"), "--format", "synthetic", code=2).stderr
    assert error.count("\n") == 1
    assert f"{disk}/a/b: cannot be written (No space left on device, after " in error
    assert names(disk) == set()


def test_a_page_and_a_cache_that_do_not_fit_leave_nothing(
    run: Commands, disk: Path, shards: Path
) -> None:
    with filled(disk):
        words = ("inspect", str(shards), "--out", str(disk / "page.html"))
        error = run(*words, code=2).stderr
        assert error.startswith(f"raysearch: {disk}/page.html: No space left on device, its ")
        assert error.count("\n") == 1
    assert names(disk) == set()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("place", ["temporary", "artifacts", "database"])
def test_a_model_is_registered_once_there_is_space(
    small_champion_study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    study = small_champion_study
    artifact, classifier = load_champion(study.folder, study.plan, study.history)
    content = pack_model_artifact(artifact, classifier)
    tags = {"trial": "t0000", "kind": "refit"}
    with small_disk(tmp_path / "disk", "8m") as disk:
        folders = {name: tmp_path / name for name in ("temporary", "artifacts", "database")}
        folders[place] = disk
        for folder in folders.values():
            folder.mkdir(exist_ok=True)
        monkeypatch.chdir(folders["artifacts"])
        monkeypatch.setattr(tempfile, "tempdir", str(folders["temporary"]))
        tracker = Tracker(study.plan, f"sqlite:///{folders['database']}/mlflow.db")

        def register() -> str:
            example = example_batch(study.plan.shape)
            return register_champion(
                tracker, "x", classifier, example, tags, content, artifact.served_rule
            )

        with filled(disk), pytest.raises(StudyError, match="could not be registered") as rejected:
            register()
        assert "\n" not in str(rejected.value)
        name = {"database": "mlflow.db", "artifacts": "mlruns"}.get(place, "")
        assert f"{disk / name} 0" in str(rejected.value)
        assert not [name for name in names(folders["temporary"]) if name.startswith("rs-tmp")]
        assert register() == "1"
        tracker.close("FINISHED", 60.0)


def outcome(history: History) -> dict[str, object]:
    """What must not depend on disturbances."""
    trials = {
        trial.id: (
            trial.hparams,
            trial.status,
            [(report.epoch, report.objective, report.metrics) for report in trial.reports],
        )
        for trial in history.trials.values()
    }
    return {**trials, "champion": (history.champion, history.champion_decision)}


def launch(run: Commands, shards: Path, *options: str) -> subprocess.Popen[str]:
    return run.start("launch", "small.yaml", "--data", str(shards), "--name", "small", *options)


def await_status(process: subprocess.Popen[str], status: str) -> None:
    """Read the output of a launch until it prints a status."""
    assert process.stdout is not None
    for line in process.stdout:
        if status in line:
            return
    pytest.fail(f"the launch ended before {status!r}: {process.communicate()[1]}")


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder of temporary files under a path that is short enough for Ray's sockets."""
    path = Path(f"/tmp/rs{os.getpid()}")
    path.mkdir()
    yield path
    shutil.rmtree(path)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_a_study_that_was_killed_and_met_full_disks_equals_the_undisturbed_one(
    run: Commands, shards: Path, tmp_path: Path, scratch: Path
) -> None:
    prepare_launch(run.folder, epochs=1, trials="2", sampler="random")
    undisturbed = launch(run, shards)
    await_status(undisturbed, "starting Ray")
    assert undisturbed.stdout is not None
    undisturbed.stdout.close()  # as `| head -1`
    assert undisturbed.wait(timeout=600) == 0
    expected = load_study(study(run)).history

    with small_disk(tmp_path / "disk", "64m") as disk:
        environment = {"TMPDIR": str(scratch), "RAY_TMPDIR": str(scratch)}
        full = Commands(disk, {**environment, "OMP_NUM_THREADS": "1"})
        shutil.copy(run.folder / "small.yaml", disk)
        killed = launch(full, shards)
        await_status(killed, "searching")
        os.kill(killed.pid, signal.SIGKILL)
        killed.communicate()
        left = {path.name[:7] for path in scratch.iterdir()}
        assert "rs-ray-" in left
        for status, file in (("searching", disk), ("refitting", study(full).local / "champion.pt")):
            process = launch(full, shards, "--resume")
            await_status(process, status)
            with filled(disk):
                error = process.communicate(timeout=600)[1]
            assert process.returncode == 2, error
            assert error.count("\n") == 1
            assert str(file) in error
            assert " bytes do not fit into the 0 free bytes of its disk" in error
            assert error.rstrip().endswith("resume with --resume")
            assert not [path for path in disk.rglob(".*") if not path.is_dir()]
            assert not [path.name for path in scratch.iterdir() if path.name.startswith("rs-")]
        process = launch(full, shards, "--resume")
        assert process.communicate(timeout=600)[1] == ""
        assert process.returncode == 0
        history = load_study(study(full)).history
        assert outcome(history) == outcome(expected)
        check_mlflow_has_the_history(full, history)
