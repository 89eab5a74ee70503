"""`raysearch stop`: ends a running study after its state is saved, or single trials of a study."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from raysearch.cli.options import (
    INTERRUPTED,
    STUDIES,
    OnOption,
    StudiesOption,
    StudyArgument,
    chosen_cluster,
    command_line_value,
    make_console,
)
from raysearch.config.run_location import RemoteCluster
from raysearch.errors import StudyError

if TYPE_CHECKING:
    from raysearch.cli.study_requests import RequestedStops

# The start of the line by which a command reports an error.
ERROR_START = "raysearch: "


def stop(
    context: typer.Context,
    name: StudyArgument,
    studies: StudiesOption = STUDIES,
    on: OnOption = None,
    trial: Annotated[
        list[str] | None,
        typer.Option(help="Stop only this trial; the study goes on. Can be repeated."),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Start no further trial with this value of a choice, and stop the unfinished ones"
            " that have it; the study goes on. Can be repeated.",
        ),
    ] = None,
) -> int:
    """Stop a running study; `launch --resume` continues it.

    With `--trial` or `--exclude`, stop single trials of a study, whether it is running or not. With
    a cluster as `--on`, `--studies` is then the folder of studies that its head reads.

    Example: `raysearch stop quickstart --on cluster.yaml`

    An architecture of a study: `raysearch stop first --exclude architecture=resnet18`
    """
    console = make_console()
    cluster = chosen_cluster(context, on, takes_both=bool(trial or exclude))
    if trial or exclude:
        return _stop_trials(context, name, studies, cluster, trial or [], exclude or [])
    if cluster is not None:
        return _stop_on_cluster(name, cluster, console)
    from raysearch.cli.local_study import local_study
    from raysearch.cli.local_study import stop as stop_here

    folder = local_study(studies, name)
    with console.status(f"Stopping {name}"):
        text = stop_here(folder)
    console.print(text, soft_wrap=True, markup=False, highlight=False)
    return 0


def _stop_on_cluster(name: str, cluster: RemoteCluster, console: Console) -> int:
    from raysearch.search.engine.cluster_jobs import connected_jobs

    with connected_jobs(cluster, console.print) as jobs:
        job = jobs.newest_of_study(name)
        if job.is_over:
            console.print(f"{name} had already ended: {job.status.lower()}")
            return 0
        with console.status(f"Stopping {name}"):
            job = jobs.stop(job)
        is_saved = any(INTERRUPTED in line for line in jobs.log(job.id)[-20:])
    resume = f"To resume it, add to its launch command: --name {name} --resume"
    if job.status == "SUCCEEDED":
        text = f"{name} ended by itself; see: raysearch results {name} {cluster.option}"
    elif is_saved:
        text = f"{INTERRUPTED}. {resume}"
    else:
        text = f"Killed; the reported fold-epochs are saved. {resume}"
    console.print(text, soft_wrap=True, markup=False, highlight=False)
    return 0


def _stop_trials(
    context: typer.Context,
    name: str,
    studies: str,
    cluster: RemoteCluster | None,
    trials: list[str],
    exclusions: list[str],
) -> int:
    """Stop single trials and exclude values, on this machine or on the head of a cluster."""
    from raysearch.cli.study_requests import RequestedStops, stop_in_study

    console, stops = make_console(), RequestedStops(trials, exclusions)
    if cluster is None:
        from raysearch.cli.local_study import local_study

        folder = local_study(studies, name)
        with console.status(f"Stopping trials of {name}"):
            text = stop_in_study(folder, stops)
        console.print(text, soft_wrap=True, markup=False, highlight=False)
        return 0
    return _stop_trials_on_cluster(name, cluster, command_line_value(context, "studies"), stops)


def _stop_trials_on_cluster(
    name: str, cluster: RemoteCluster, studies: str | None, stops: RequestedStops
) -> int:
    """Run the same command on the head, which can read the study."""
    from raysearch.search.engine.cluster_jobs import connected_jobs

    console = make_console()
    with connected_jobs(cluster, console.print) as jobs:
        if studies is None and cluster.is_address:
            studies = jobs.newest_of_study(name).studies or None
        options = [] if studies is None else ["--studies", studies]
        lines, has_succeeded = jobs.run_to_end(["stop", name, *stops.arguments(), *options])
    # The answer about a study named `raysearch` starts like an error.
    start = f"{name}: " if has_succeeded else ERROR_START
    answers = [line for line in lines if line.startswith(start)]
    if not answers:
        last_line = next((line.strip() for line in reversed(lines) if line.strip()), "no output")
        raise StudyError(f"the head could not stop trials of {name} ({last_line[:200]})")
    if not has_succeeded:
        raise StudyError("\n".join(line.removeprefix(ERROR_START) for line in answers))
    console.print(answers[-1], soft_wrap=True, markup=False, highlight=False)
    return 0
