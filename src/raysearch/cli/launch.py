"""`raysearch launch`: plan a study, run it, crown its champion."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from raysearch.cli.options import STUDIES, StudiesOption, given


def launch(
    context: typer.Context,
    space: Annotated[Path, typer.Argument(help="The search space, a YAML file.")],
    data: Annotated[
        str | None, typer.Option(help="The folder of shards. Default: the space's `data`.")
    ] = None,
    trials: Annotated[
        str | None,
        typer.Option(help="How many trials; +N with --resume for N more. Default: the space's."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The seed. Default: the space's.")] = None,
    name: Annotated[
        str | None, typer.Option(help="The study's name. Default: a new one from the file's name.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the study.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and start nothing.")
    ] = False,
    studies: StudiesOption = STUDIES,
    cluster: Annotated[
        Path | None,
        typer.Option(help="Launch on the cluster that `ray up` made of this file, and follow it."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
    events: Annotated[
        bool, typer.Option("--events", hidden=True, help="Print each event as a line of JSON.")
    ] = False,
) -> int:
    """Run a study: search, stop the weak early, refit the best, register it.

    Example: `raysearch launch searchspace/quickstart.yaml --trials 8 --name first`

    On a cluster, from a laptop: `raysearch launch searchspace/idc.yaml --cluster cluster.yaml`
    """
    # torch takes seconds to import, which help and mistakes need not wait for.
    if cluster is None and not dry_run and (name or resume):
        from raysearch.search.journal.study_folder import StudyFolder
        from raysearch.search.study.launcher_lock import check_no_launcher

        check_no_launcher(StudyFolder(f"{studies}/{name or space.stem}"))
    from raysearch.cli.launch_study import Launch, start

    asked = Launch(space, data, trials, seed, name, resume, dry_run, studies, as_json, events)
    if cluster is None:
        return start(asked)
    from raysearch.cli.remote_launch import launch_on_cluster

    return launch_on_cluster(asked, given(context, "studies"), cluster)
