"""No command loses anything when its terminal closes, or nobody reads its output any more."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import Commands
from raysearch.search.study.stored_study import load_study
from raysearch.search.study.study import Study
from support.launched_studies import check_mlflow_has_the_history, prepare_launch, study
from support.small_disks import terminal

RAYSEARCH = str(Path(sys.executable).with_name("raysearch"))
STUDIES = ("studies", "--json")
# As nohup, which would also redirect the output.
WITHOUT_HANGUP = ("sh", "-c", 'trap \'\' HUP; exec "$0" "$@"')


def run_with_closed_terminal(run: Commands, *words: str) -> int:
    """Run a command on a terminal that is closed from its start; return its exit code."""
    with terminal() as (seen, used):
        process = subprocess.Popen(
            [*WITHOUT_HANGUP, RAYSEARCH, *words],
            cwd=run.folder,
            env=run.environment,
            stdin=used,
            stdout=used,
            stderr=used,
            start_new_session=True,
        )
        seen.close()
        return process.wait(timeout=300)


def run_into_closed_pipe(run: Commands, *words: str) -> tuple[int, str]:
    """Run a command as in `command | true`; return its exit code and standard error."""
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.run(
        [RAYSEARCH, *words],
        cwd=run.folder,
        env=run.environment,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    return process.returncode, process.stderr


@pytest.mark.usefixtures("studies")
def test_a_closed_pipe_ends_a_command_quietly_with_its_usual_code(run: Commands) -> None:
    run.environment["RAYSEARCH_STUDIES"] = os.environ["RAYSEARCH_STUDIES"]
    assert run_into_closed_pipe(run, *STUDIES) == (0, "")
    assert run_into_closed_pipe(run, "results", "first") == (0, "")
    code, err = run_into_closed_pipe(run, "results", "second")
    assert (code, err.count("\n")) == (2, 1)


@pytest.mark.usefixtures("studies")
def test_output_that_does_not_fit_on_its_disk_is_an_error(run: Commands) -> None:
    run.environment["RAYSEARCH_STUDIES"] = os.environ["RAYSEARCH_STUDIES"]
    with Path("/dev/full").open("w") as full:
        process = subprocess.run(
            [RAYSEARCH, *STUDIES],
            env=run.environment,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert process.returncode == 2
    assert process.stderr == (
        "raysearch: standard output: No space left on device; the output is incomplete, free some"
        " space\n"
    )


def test_commands_run_without_standard_streams(run: Commands) -> None:
    command = f'"{RAYSEARCH}" shard 12:24:3 closed --format synthetic <&- >&- 2>&-'
    process = subprocess.run(
        ["sh", "-c", command], cwd=run.folder, env=run.environment, check=False
    )
    assert process.returncode == 0
    manifest = json.loads((run.folder / "closed" / "manifest.json").read_bytes())
    assert sum(shard["rows"] for shard in manifest["shards"]) == 24


@pytest.mark.slow
def test_shard_and_inspect_outlive_their_terminal(run: Commands) -> None:
    assert run_with_closed_terminal(run, "shard", "12:240:3", "data", "--format", "synthetic") == 0
    code = run_with_closed_terminal(run, "inspect", "data", "--out", "page.html")
    assert code in (0, 1)  # as the same command answers below
    assert (run.folder / "page.html").stat().st_size > 10_000
    run("inspect", "data", code=code)


@pytest.mark.slow
def test_report_and_predict_outlive_their_terminal(
    run: Commands, small_champion_study: Study, image_folders: Path
) -> None:
    run.environment["RAYSEARCH_STUDIES"] = str(Path(small_champion_study.folder.address).parent)
    assert run_with_closed_terminal(run, "report", "first", "--out", "first.html") == 0
    assert "</html>" in (run.folder / "first.html").read_text()
    words = ("predict", "first", str(image_folders / "plain"), "scores")
    assert run_with_closed_terminal(run, *words) == 0
    assert (run.folder / "scores" / "scores.parquet").is_file()
    assert not (run.folder / "scores" / "partial").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("options", [(), ("--events",)])
def test_a_study_outlives_its_terminal(
    run: Commands, shards: Path, options: tuple[str, ...]
) -> None:
    """The terminal closes while the study searches; `--events` loses the reader of its pipe."""
    prepare_launch(run.folder, epochs=1, trials="2", sampler="random")
    launch = (RAYSEARCH, "launch", "small.yaml", "--data", str(shards), "--name", "small", *options)
    with terminal() as (seen, used):
        process = subprocess.Popen(
            [*WITHOUT_HANGUP, *launch],
            cwd=run.folder,
            env=run.environment,
            stdin=used,
            stdout=subprocess.PIPE if options else used,
            stderr=used,
            bufsize=0,
            start_new_session=True,
        )
        reader = process.stdout or seen
        output = b""
        while b"searching" not in output:
            output += reader.read(2**16) or b""
        reader.close()
        seen.close()
        assert process.wait(timeout=600) == 0
    (row,) = json.loads(run("studies", "--json").stdout)["studies"]
    assert (row["name"], row["num_started"], row["error"]) == ("small", 2, "")
    history = load_study(study(run)).history
    assert history.champion is not None
    check_mlflow_has_the_history(run, history)
    log = (study(run).local / "logs" / "launch.log").read_text()
    assert not re.search("Traceback|BrokenPipe|Input/output", log), log
