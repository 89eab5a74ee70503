"""`raysearch slurm`: the script, and what is rejected. `tests/cluster` runs it."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from raysearch.cli import run
from raysearch.cli.slurm import SlurmJob, job_options

TOP = Path(__file__).parents[2]
QUICKSTART = str(TOP / "searchspace" / "quickstart.yaml")


def script(path: Path) -> str:
    """The script at `path`, whose syntax is valid."""
    subprocess.run(["bash", "-n", str(path)], check=True)
    return path.read_text()


def test_the_script_has_what_slurm_and_the_launch_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["slurm", QUICKSTART, "epochs=2", "--nodes", "4", "--gpus-per-node", "2"]
    words += ["--cpus-per-node", "12", "--time", "2-00", "--data", "my data", "--trials", "7"]
    words += ["--sbatch=--partition=gpu", "--sbatch=--account=lab", "--studies", "s3://b/studies"]
    assert run([*words, "--name", "first"]) == 0
    text = script(tmp_path / "first.sbatch")
    options = [line.removeprefix("#SBATCH ") for line in text.splitlines() if "#SBATCH" in line]
    assert options == [
        *("--job-name=first", "--nodes=4", "--ntasks-per-node=1", "--cpus-per-task=12"),
        *("--gpus-per-node=2", "--time=2-00", "--signal=B:USR1@180", "--requeue"),
        *("--open-mode=append", "--output=first-%j.log", "--partition=gpu", "--account=lab"),
    ]
    launch = next(line for line in text.splitlines() if line.startswith("launch=("))
    expected = ["raysearch", "launch", QUICKSTART, "epochs=2", "--data", f"{tmp_path}/my data"]
    assert shlex.split(launch.removeprefix("launch=(").removesuffix(")")) == [
        *expected,
        *("--trials", "7", "--name", "first"),
    ]
    assert "export RAYSEARCH_STUDIES=s3://b/studies" in text
    # No token is in the file.
    assert "RAY_AUTH_TOKEN=$(" in text


def test_names_with_special_characters_are_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a'b $(touch x)"
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert run(["slurm", QUICKSTART, "--data", "$HOME;`id`", "--out", "job.sbatch"]) == 0
    text = script(folder / "job.sbatch")
    launch = next(line for line in text.splitlines() if line.startswith("launch=("))
    assert shlex.split(launch[8:-1])[4] == f"{folder}/$HOME;`id`"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--time", "soon"], "--time soon: not a time of Slurm; give one such as 08:00:00"),
        (["--time", "4"], "--time 4: the study is saved 180 s before the limit; give at least 5"),
        (["--time", "4:59"], "--time 4:59: the study is saved"),
        (["--out", "none/x.sbatch"], "--out none/x.sbatch: no folder none"),
        (["--name", "a b"], "--name 'a b': not a name"),
        (["--sbatch", "gpu"], "--sbatch 'gpu': not an option of `sbatch`"),
        (["--sbatch", "--qos=x\nrm -r /"], "not an option of `sbatch`"),
        (["epochs=many"], "epochs"),
        (["--nodes", "0"], "Invalid value for '--nodes'"),
    ],
)
def test_wrong_options_are_rejected_and_nothing_is_written(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["slurm", QUICKSTART, *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_spaces_without_data_or_file_are_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["slurm", "none.yaml"]) == 2
    assert "none.yaml: no such file" in capsys.readouterr().err
    assert run(["slurm", "--nodes", "2"]) == 2
    assert "no data: give --data DIR" in capsys.readouterr().err


def test_only_its_own_scripts_are_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.sbatch").write_text("#!/bin/bash\n")
    assert run(["slurm", QUICKSTART, "--name", "mine"]) == 2
    assert "not a script of `raysearch slurm`, and it would be replaced" in capsys.readouterr().err
    assert (tmp_path / "mine.sbatch").read_text() == "#!/bin/bash\n"
    for nodes in ("2", "3"):
        assert run(["slurm", QUICKSTART, "--name", "other", "--nodes", nodes]) == 0
    assert "#SBATCH --nodes=3" in script(tmp_path / "other.sbatch")


def test_the_first_argument_may_be_an_override(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["slurm", "epochs=2", "--data", "shards", "--name", "x"]) == 0
    expected = f"launch=(raysearch launch epochs=2 --data {tmp_path}/shards --name x)"
    assert expected in script(tmp_path / "x.sbatch")


def test_a_hanging_sbatch_is_an_error_of_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    program = tmp_path / "bin" / "sbatch"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    monkeypatch.setattr("raysearch.cli.slurm.SBATCH_TIMEOUT_S", 0.5)
    assert run(["slurm", QUICKSTART, "--name", "x", "--submit"]) == 2
    assert "`sbatch` has not answered" in capsys.readouterr().err


def test_a_machine_without_slurm_keeps_the_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run(["slurm", QUICKSTART, "--name", "x", "--submit"]) == 2
    assert "--submit: there is no `sbatch` on this machine" in capsys.readouterr().err
    assert (tmp_path / "x.sbatch").is_file()


def test_the_example_is_the_same_script() -> None:
    options = [
        "--job-name=idc",
        "--nodes=4                # CHANGE: the number of nodes",
        "--ntasks-per-node=1",
        "--cpus-per-task=16       # CHANGE: the cores of a node",
        "--gpus-per-node=4        # CHANGE: its GPUs",
        "--time=08:00:00          # CHANGE: the time limit",
        *job_options("idc", "08:00:00")[1:],
    ]
    settings = [
        (
            "PATH",
            "/shared/raysearch/.venv/bin:$PATH",
            "  # CHANGE: the environment with raysearch",
        ),
        (
            "RAYSEARCH_STUDIES",
            "/shared/studies",
            "  # CHANGE: the folder of all studies, which all nodes share",
        ),
        ("RAYSEARCH_CACHE", '"${TMPDIR:-/tmp}/raysearch-$(id -u)"', "  # on the disk of the node"),
    ]
    launch = "raysearch launch searchspace/idc.yaml --data /shared/idc --name idc"
    job = SlurmJob("idc", "clusters/slurm.sbatch", options, settings, launch)
    example = TOP / "clusters" / "slurm.sbatch"
    assert script(example) == job.script(by_hand=True, launch_comment="  # CHANGE: the study")
