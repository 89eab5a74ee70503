"""Commands in odd surroundings: no home, no account, and files that are named like modules."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import Commands
from raysearch.config.process_environment import (
    path_with_working_folder_last,
    without_working_folder,
)
from raysearch.search.study.stored_study import load_study
from support.launched_studies import prepare_launch, study, write_space

# An account that the machine does not know: it can read everything, and write what it owns.
ACCOUNT = "54321"
AS_ACCOUNT = ["setpriv", "--reuid", ACCOUNT, "--regid", ACCOUNT, "--clear-groups"]
AS_ACCOUNT += ["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]
needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None,
    reason="another account on this machine requires root and setpriv",
)
PLANTED = ("types", "torch", "ray", "mlflow", "numpy", "json", "random", "typing", "token", "queue")
PACKAGE = Path(__file__).parents[2] / "src"
OF_ACCOUNT = ("HOME", "LOGNAME", "USER", "LNAME", "USERNAME")


def plant(folder: Path) -> None:
    """Write modules with the names of others, each of which leaves a mark if it is imported."""
    code = f"import os\nos.close(os.open({str(folder / 'imported-')!r} + __name__, os.O_CREAT))\n"
    for name in PLANTED:
        (folder / f"{name}.py").write_text(code + "raise ImportError('a planted module')\n")
    (folder / "raysearch").mkdir()
    (folder / "raysearch" / "__init__.py").write_text(code)
    (folder / "own_module.py").write_text("VALUE = 3\n")


def imported(folder: Path) -> list[Path]:
    return sorted(folder.glob("imported-*"))


@pytest.fixture
def account_folder(tmp_path: Path) -> Path:
    """A folder of the unknown account, with a space."""
    write_space(tmp_path)
    for path in (tmp_path, *tmp_path.iterdir()):
        os.chown(path, int(ACCOUNT), int(ACCOUNT))
    return tmp_path


def as_account(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a program of this environment by an account without a name and, by default, a home."""
    removed = (*OF_ACCOUNT, "RAYSEARCH_CACHE", "MLFLOW_TRACKING_URI")
    environment = {name: value for name, value in os.environ.items() if name not in removed}
    program = str(Path(sys.executable).with_name(words[0]))
    return subprocess.run(
        [*AS_ACCOUNT, program, *words[1:]],
        cwd=folder,
        env={**environment, **variables},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@needs_root
def test_an_account_without_a_home_and_a_name_can_plan_a_study(
    account_folder: Path, shards: Path
) -> None:
    process = as_account(
        account_folder, "raysearch", "launch", "small.yaml", "--data", str(shards), "--dry-run"
    )
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    assert "learning_rate" in process.stdout


@needs_root
@pytest.mark.slow
def test_libraries_can_be_imported_by_an_account_without_a_home_and_a_name(
    account_folder: Path,
) -> None:
    code = "from raysearch.config.process_environment import prepare_environment\n"
    code += "{}import getpass, pathlib, mlflow\nprint(getpass.getuser(), pathlib.Path.home())"
    with_it = as_account(account_folder, "python", "-c", code.format("prepare_environment()\n"))
    assert with_it.stdout.split() == [f"uid{ACCOUNT}", "/nonexistent"], with_it.stderr
    assert as_account(account_folder, "python", "-c", code.format("")).returncode != 0


@needs_root
@pytest.mark.slow
@pytest.mark.parametrize("home", [{}, {"HOME": "/root"}])
def test_a_launch_without_a_usable_home_names_the_variable_before_ray_starts(
    account_folder: Path, shards: Path, home: dict[str, str]
) -> None:
    process = as_account(
        account_folder, "raysearch", "launch", "small.yaml", "--data", str(shards), **home
    )
    assert process.returncode == 2, process.stdout + process.stderr
    (line,) = process.stderr.splitlines()
    assert line.startswith("raysearch: ")
    assert "set RAYSEARCH_CACHE to" in line
    assert "starting Ray" not in process.stdout


def test_the_working_folder_comes_last_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path)
    path = ["", "/one", str(tmp_path), str(tmp_path / "link"), "/two"]
    assert path_with_working_folder_last(path) == ["/one", "/two", str(tmp_path.resolve())]
    assert without_working_folder(f":{tmp_path}:/one:{PACKAGE}") == f"/one:{PACKAGE}"


def test_a_removed_working_folder_removes_no_entry_of_the_search_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "removed"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    assert without_working_folder(":/one:/two") == "/one:/two"
    assert path_with_working_folder_last(["", "/one", "/two"]) == ["/one", "/two"]
    monkeypatch.chdir(tmp_path)  # a folder to return from


def test_a_planted_module_is_imported_by_no_short_command(
    run: Commands, image_folders: Path
) -> None:
    plant(run.folder)
    run("shard", str(image_folders / "idc"), "shards")  # by spawned processes
    assert (run.folder / "shards" / "manifest.json").exists()
    assert imported(run.folder) == []


def test_the_search_path_of_child_processes_has_no_working_folder(tmp_path: Path) -> None:
    plant(tmp_path)
    code = "import os, subprocess, sys\n"
    code += "from raysearch.config.process_environment import prepare_environment\n"
    code += "prepare_environment()\nimport own_module\nassert own_module.VALUE == 3\n"
    code += "subprocess.run([sys.executable, '-m', 'json.tool', '--help'], check=True)\n"
    code += "print(os.environ['PYTHONPATH'])"
    path = os.pathsep.join([str(PACKAGE), "/elsewhere"])
    environment = {**os.environ, "PYTHONPATH": path}
    process = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines()[-1] == path
    assert imported(tmp_path) == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_study_beside_planted_modules_and_without_a_home_imports_none_of_them(
    run: Commands, shards: Path, tmp_path: Path
) -> None:
    prepare_launch(run.folder, 1, trials="1")
    plant(run.folder)
    no_folder = tmp_path / "small.yaml" / "home"  # below a file: root cannot create it either
    run.environment |= {"HOME": str(no_folder), "RAYSEARCH_CACHE": str(tmp_path / "cache")}
    process = run("launch", "small.yaml", "--data", str(shards))
    assert imported(run.folder) == []
    assert "Traceback" not in process.stderr
    history = load_study(study(run)).history
    assert {trial.status for trial in history.searched()} == {"finished"}
    assert "models:/small@champion" in process.stdout
