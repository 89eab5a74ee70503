"""Launches a study from Python."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from raysearch.api.command_process import run_command
from raysearch.api.loaded_study import Study, load, studies_folder
from raysearch.api.search_space import Space
from raysearch.cli.launch_log import LaunchLog
from raysearch.cli.live_table import LiveView
from raysearch.cli.options import make_console
from raysearch.errors import StudyError

# The name of a study whose space has no file; a further one is `study-2`.
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
    progress: bool = True,
) -> Study:
    """Run a study to its end, and return it: the search, then the training of the champion.

    The study runs in a process of its own. An interrupt, such as Ctrl-C or that of a notebook,
    saves its state and is raised again; `resume=True` continues the study. If this process is
    killed, the study goes on.

    Args:
        space: A space, or the path of a space file. Default: as `raysearch launch` without a space.
        data: The folder of shards. Default: the `data` of the space; of a resume, the study's.
        name: The name of the study. Default: a new one from the name of the space file.
        trials: The number of trials; with `resume`, `"+10"` adds 10. Default: that of the space.
        seed: The seed. Default: that of the space.
        overrides: Values that replace those of the space, such as `epochs=2`.
        resume: Whether to resume the study `name`.
        studies: The folder or address with all studies. Default: the environment variable
            RAYSEARCH_STUDIES, else `studies`.
        progress: Whether to show the live table.

    Returns:
        The study, with its champion.

    Raises:
        UserError: If the space, the data or an option is invalid, or the study fails.
        KeyboardInterrupt: If it is interrupted, after its state is saved.
    """
    folder = studies_folder(studies)
    values = {"--data": data, "--trials": trials, "--seed": seed, "--name": name}
    options = [
        word for key, value in values.items() if value is not None for word in (key, str(value))
    ]
    options += ["--resume"] if resume else []
    log = LaunchLog()
    console = make_console() if progress else Console(quiet=True)
    with tempfile.TemporaryDirectory() as scratch, LiveView(console, _is_local()) as view:
        words = ["launch", *_space_words(space, Path(scratch)), *overrides, *options]
        run_command([*words, "--studies", folder, "--events"], lambda line: log.read(line, view))
    if log.study is None:
        raise StudyError("the launch has ended without a study")
    return load(log.study.plan.name, folder)


def _is_local() -> bool:
    return "RAY_ADDRESS" not in os.environ


def _space_words(space: Space | str | Path | None, scratch: Path) -> list[str]:
    """Return the words of the command that name the space; one without a file gets one."""
    if space is None:
        return []
    if not isinstance(space, Space):
        return [str(space)]
    space.write(scratch / SPACE_FILE)
    return [str(scratch / SPACE_FILE)]
