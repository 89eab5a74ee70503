"""Launches a study from Python."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from raysearch.api.command_process import run_command
from raysearch.api.loaded_study import Study, load, studies_folder
from raysearch.api.search_space import Space
from raysearch.cli.launch_log import ERROR_START, LaunchLog
from raysearch.cli.live_table import LiveView
from raysearch.cli.options import make_console
from raysearch.cli.safe_console import NOTEBOOK_WIDTH, SafeConsole
from raysearch.config.component_section import CODE_VARIABLE
from raysearch.config.run_location import cluster_address, remote_cluster
from raysearch.errors import StudyError
from raysearch.search.study.remote_view import LINE_START

# The file of a space that has none; the study has its name.
SPACE_FILE = "study.yaml"


def launch(
    space: Space | str | Path | None = None,
    data: str | Path | None = None,
    *,
    name: str | None = None,
    trials: int | str | None = None,
    seed: int | None = None,
    overrides: Sequence[str] = (),
    resume: bool = False,
    studies: str | Path | None = None,
    memory: str | Path | None = None,
    progress: bool = True,
) -> Study:
    """Run a study to its end, and return it: the search, then the training of the champion.

    The study runs in a process of its own. An interrupt, such as Ctrl-C or that of a notebook,
    saves its state and is raised again; `resume=True` continues the study. If this process is
    killed, the study goes on.

    Args:
        space: A space, or the path of a space file. Default: as `raysearch launch` without a space.
        data: The folder of shards. Default: the `data` of the space; of a resume, the study's.
        name: The name of the study; required with `resume`. Default: a new one from the name of the
            space file; `study`, `study-2` and so on of a space without a file.
        trials: The number of trials; with `resume`, `"+10"` adds 10. Default: that of the space.
        seed: The seed. Default: that of the space.
        overrides: Values that replace those of the space, such as `epochs=2`.
        resume: Whether to resume the study `name`.
        studies: The folder or address with all studies. Default: the environment variable
            RAYSEARCH_STUDIES, else `studies`.
        memory: The earlier studies that the search learns from: `none`, `studies` for those in its
            own folder, or another folder. Default: that of the space.
        progress: Whether to show the live table; in a notebook, it is one output of the cell.

    Returns:
        The study, with its champion.

    Raises:
        StudyError: With the message of `raysearch launch` if the space, the data or an option is
            invalid, or the study fails.
        KeyboardInterrupt: If it is interrupted, after its state is saved.
    """
    if resume and name is None:
        raise StudyError("resume=True: give the name of the study, such as name='first'")
    if isinstance(overrides, str):
        raise StudyError(f"overrides={overrides!r}: give a list, such as ['epochs=2']")
    cluster = remote_cluster(None)
    if cluster is not None:
        raise StudyError(
            f"RAY_ADDRESS={cluster}: raysearch.launch sends no study to a cluster; use `raysearch"
            " launch`, or set RAY_ADDRESS=local"
        )
    folder = studies_folder(studies)
    values = {
        "--data": data,
        "--trials": trials,
        "--seed": seed,
        "--name": name,
        "--memory": memory,
    }
    options = [f"{key}={value}" for key, value in values.items() if value is not None]
    options += [f"--studies={folder}", "--events", *(["--resume"] if resume else [])]
    log = LaunchLog()
    with tempfile.TemporaryDirectory() as scratch:
        words = ["launch", *options, "--", *_space_words(space, Path(scratch)), *overrides]
        try:
            variables = {CODE_VARIABLE: _code_folders(space)}
            _run(words, log, variables, progress=progress)
        except StudyError as error:
            raise StudyError(_python_text(str(error), scratch, log)) from None
    if log.study is None:
        raise StudyError("the launch has ended without a study")
    launched = log.study.plan.code  # which this user has allowed by the launch
    study = load(log.study.plan.name, folder, allow_code=bool(launched.import_paths))
    if study.code_hash != launched.content_hash:
        raise StudyError(f"study {study.name!r} has other code than the one that was launched")
    return study


def _code_folders(space: Space | str | Path | None) -> str:
    """Return the folders in which modules of the user's are looked for, with that of `space`."""
    folders = [os.environ.get(CODE_VARIABLE, "")]
    if isinstance(space, Space) and os.pathsep not in str(space.folder):
        folders.insert(0, str(space.folder))
    return os.pathsep.join(filter(None, folders))


def _run(words: list[str], log: LaunchLog, variables: Mapping[str, str], *, progress: bool) -> None:
    """Run the command, and show its progress and its notices."""
    if not progress:
        run_command(words, log.read, variables)
        return
    console = make_console()
    is_notebook = console.is_jupyter
    if is_notebook:  # its lines are text, not an output each
        console = SafeConsole(force_jupyter=False, force_terminal=False, width=NOTEBOOK_WIDTH)
    with LiveView(console, cluster_address() is None, is_notebook) as view:

        def show(line: str) -> None:
            log.read(line, view)
            if not line.startswith((LINE_START, ERROR_START)):
                console.print(line, markup=False, highlight=False, soft_wrap=True)

        run_command(words, show, variables)


def _python_text(text: str, scratch: str, log: LaunchLog) -> str:
    """Return a message of the command without the temporary file of the space."""
    text = text.replace(f"{Path(scratch) / SPACE_FILE}", SPACE_FILE)
    if log.study is None or "--resume" not in text:
        return text
    return f"{text}\nIn Python: raysearch.launch(space, name={log.study.plan.name!r}, resume=True)"


def _space_words(space: Space | str | Path | None, scratch: Path) -> list[str]:
    """Return the words of the command that name the space; one without a file gets one."""
    if space is None:
        return []
    if not isinstance(space, Space):
        return [str(space)]
    space.write(scratch / SPACE_FILE)
    return [str(scratch / SPACE_FILE)]
