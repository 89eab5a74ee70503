"""`raysearch slurm`: writes the batch script of a study for Slurm, and submits it."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from raysearch.cli.json_output import print_json
from raysearch.cli.launch_space import space_stem
from raysearch.cli.options import (
    STUDIES,
    JsonOption,
    StudiesOption,
    check_out_folder,
    make_console,
)
from raysearch.cli.space_argument import check_space, split_arguments
from raysearch.config.names import NAME
from raysearch.data.file_access import write_file
from raysearch.errors import SpaceError, StudyError, UserError

TEMPLATE = "slurm_job.sbatch"
# A line of the scripts that this command has written, and may replace.
HEADER = b"# Written by `raysearch slurm`."
# Slurm's forms of a time limit: minutes, minutes:seconds, hours:minutes:seconds, days-hours, and
# days-hours:minutes[:seconds].
TIME = re.compile(r"\d+|\d+:\d{2}|\d+:\d{2}:\d{2}|\d+-\d{1,2}(:\d{2}){0,2}")
# So many seconds before the time limit, the study is saved.
SAVE_S = 180
MIN_TIME_S = 300
SBATCH_TIMEOUT_S = 60


@dataclass(frozen=True)
class SlurmJob:
    """A job of Slurm that runs a study.

    Args:
        name: The name of the study.
        file: The path of the script.
        options: The options of `sbatch`.
        settings: Environment variables: their names, shell words, and comments.
        launch: The words of the launch.
    """

    name: str
    file: str
    options: Sequence[str]
    settings: Sequence[tuple[str, str, str]]
    launch: str

    def script(self, *, by_hand: bool = False, launch_comment: str = "") -> str:
        """Return the batch script.

        Args:
            by_hand: Whether a user completes it.
            launch_comment: A comment after the words of the launch.
        """
        import jinja2

        environment = jinja2.Environment(  # noqa: S701 a shell script, whose words are quoted
            loader=jinja2.FileSystemLoader(Path(__file__).parent),
            undefined=jinja2.StrictUndefined,
            keep_trailing_newline=True,
        )
        return environment.get_template(TEMPLATE).render(
            name=self.name,
            file=self.file,
            options=self.options,
            settings=self.settings,
            launch=self.launch,
            launch_comment=launch_comment,
            by_hand=by_hand,
        )


def slurm(
    space: Annotated[
        Path | None,
        typer.Argument(help="The search space, a YAML file. Default: as `raysearch launch`."),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Values that replace those of the file."),
    ] = None,
    nodes: Annotated[int, typer.Option(min=1, help="The number of nodes.")] = 1,
    cpus_per_node: Annotated[
        int, typer.Option(min=1, help="The cores that the study uses of each node.")
    ] = 8,
    gpus_per_node: Annotated[
        int, typer.Option(min=0, help="The GPUs that the study uses of each node.")
    ] = 0,
    time: Annotated[
        str,
        typer.Option(
            help="The time limit of the job, such as 08:00:00 or 2-00. Before it, the study is"
            " saved and the job is queued again."
        ),
    ] = "24:00:00",
    data: Annotated[
        str | None, typer.Option(help="The folder of shards. Default: the space's `data`.")
    ] = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Number of trials. Default: the space's.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The study's name. Default: that of the space file.")
    ] = None,
    studies: StudiesOption = STUDIES,
    sbatch: Annotated[
        list[str] | None,
        typer.Option(
            help="A further option of `sbatch`, such as --sbatch=--partition=gpu. Can be repeated."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The file to write. Default: NAME.sbatch.")
    ] = None,
    submit: Annotated[bool, typer.Option("--submit", help="Also submit it.")] = False,
    as_json: JsonOption = False,
) -> int:
    """Write the Slurm script of a study, which starts Ray on its nodes.

    The studies, the data and this Python environment must be on storage that all nodes share.

    Example: `raysearch slurm searchspace/idc.yaml --data /shared/idc --nodes 4 --gpus-per-node 4`
    """
    space, overrides = split_arguments(space, overrides)
    if not TIME.fullmatch(time):
        raise UserError(f"--time {time}: not a time of Slurm; give one such as 08:00:00 or 2-00")
    if _seconds(time) < MIN_TIME_S:
        raise UserError(
            f"--time {time}: the study is saved {SAVE_S} s before the limit; give at least"
            f" {MIN_TIME_S // 60} minutes"
        )
    study = name or space_stem(space)
    if not NAME.fullmatch(study):
        raise StudyError(
            f"--name {study!r}: not a name; use at most 100 letters, digits, '.', '_', '-'"
        )
    for option in sbatch or ():
        if not option.startswith("-") or not option.isprintable():
            raise UserError(
                f"--sbatch {option!r}: not an option of `sbatch`; give one such as"
                " --sbatch=--partition=gpu"
            )
    path = out or Path(f"{study}.sbatch")
    _check_file(path)
    _check_study(space, overrides, data)
    resources = [f"--nodes={nodes}", "--ntasks-per-node=1", f"--cpus-per-task={cpus_per_node}"]
    resources += [f"--gpus-per-node={gpus_per_node}"] if gpus_per_node else []
    job = SlurmJob(
        study,
        str(path),
        [f"--job-name={study}", *resources, *job_options(study, time), *(sbatch or ())],
        _settings(studies),
        shlex.join(_launch(space, overrides, data, trials, study)),
    )
    write_file(path, job.script().encode())
    number = _submit(path) if submit else None
    if as_json:
        print_json({"script": str(path), "job": number})
        return 0
    text = f"Script {path}" if number is None else f"Script {path}\nSubmitted as job {number}"
    make_console().print(text, soft_wrap=True, markup=False, highlight=False)
    return 0


def _seconds(time: str) -> int:
    """Return the seconds of a time limit of Slurm."""
    days, dash, rest = time.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if dash:  # days-hours[:minutes[:seconds]]
        hours, minutes, seconds = [*parts, 0, 0][:3]
        return ((int(days) * 24 + hours) * 60 + minutes) * 60 + seconds
    if len(parts) < 3:  # minutes[:seconds]
        parts = [0, *parts, 0][:3]
    return (parts[0] * 60 + parts[1]) * 60 + parts[2]


def _check_study(space: Path | None, overrides: Sequence[str], data: str | None) -> None:
    """Report mistakes now, and not when the job starts, perhaps days later."""
    check_space(space, overrides, data=data, resume=False)
    if space is None or data is not None:
        return
    from raysearch.config.space_file import read_space

    if read_space(space, overrides).data is None:
        raise SpaceError(f"{space}: names no data; give --data DIR, created by `raysearch shard`")


def _check_file(path: Path) -> None:
    """Raise StudyError if `path` is a file that this command has not written."""
    check_out_folder(path)
    if path.exists() and HEADER not in path.read_bytes():
        raise StudyError(
            f"--out {path}: not a script of `raysearch slurm`, and it would be replaced; give"
            " another file"
        )


def job_options(study: str, time: str) -> list[str]:
    """Return the options of `sbatch` that save and resume a study."""
    return [
        f"--time={time}",
        f"--signal=B:USR1@{SAVE_S}",
        "--requeue",
        "--open-mode=append",
        f"--output={study}-%j.log",
    ]


def _settings(studies: str) -> list[tuple[str, str, str]]:
    """Return the environment variables of a job: paths do not depend on the working folder."""
    bin_folder = shlex.quote(str(Path(sys.executable).parent))
    return [
        ("PATH", f"{bin_folder}:$PATH", ""),
        ("RAYSEARCH_STUDIES", shlex.quote(_absolute(studies)), ""),
        ("RAYSEARCH_CACHE", '"${TMPDIR:-/tmp}/raysearch-$(id -u)"', "  # on the disk of the node"),
    ]


def _launch(
    space: Path | None,
    overrides: Sequence[str],
    data: str | None,
    trials: int | None,
    study: str,
) -> list[str]:
    words = ["raysearch", "launch", *([] if space is None else [str(space.resolve())]), *overrides]
    words += [] if data is None else ["--data", _absolute(data)]
    words += [] if trials is None else ["--trials", str(trials)]
    return [*words, "--name", study]


def _absolute(address: str) -> str:
    """Return an address that does not depend on the working folder."""
    is_path = "://" not in address and not address.startswith("synthetic:")
    return os.path.abspath(address) if is_path else address  # noqa: PTH100 links are kept


def _submit(path: Path) -> str:
    """Submit a script; return the number of its job."""
    program = shutil.which("sbatch")
    if program is None:
        raise StudyError(
            f"--submit: there is no `sbatch` on this machine; submit {path} on one that has it"
        )
    try:
        process = subprocess.run(  # noqa: S603 no shell
            [program, "--parsable", str(path)],
            capture_output=True,
            text=True,
            check=False,
            timeout=SBATCH_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        raise StudyError(
            f"--submit: `sbatch` has not answered within {SBATCH_TIMEOUT_S} s; look with `squeue`"
            f" before you submit {path} again"
        ) from None
    if process.returncode:
        reason = " ".join(process.stderr.split())
        raise StudyError(
            f"{path}: Slurm rejects it ({reason[:300]}); edit it, then `sbatch {path}`"
        )
    return process.stdout.strip().partition(";")[0]
