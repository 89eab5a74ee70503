"""`raysearch launch`: plans a study, runs it, and registers its champion."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from raysearch.cli.machines import check_idle_nodes
from raysearch.cli.options import STUDIES, JsonOption, StudiesOption, command_line_value
from raysearch.cli.space_argument import check_space, split_arguments
from raysearch.cli.supervisor import SUPERVISOR
from raysearch.config.run_location import remote_cluster, use_place


def launch(
    context: typer.Context,
    space: Annotated[
        Path | None,
        typer.Argument(
            help="The search space, a YAML file. Default: fine-tuning if ImageNet's weights are on"
            " this machine, else a search from scratch."
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="Values that replace those of the file, such as `space.architecture=resnet18`;"
            " `KEY=` removes a key.",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="The folder of shards. Default: the space's `data`; with --resume, the study's."
        ),
    ] = None,
    trials: Annotated[
        str | None,
        typer.Option(help="Number of trials; +N with --resume adds N. Default: the space's."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The seed. Default: the space's.")] = None,
    memory: Annotated[
        str | None,
        typer.Option(
            help="The earlier studies that the search learns from: `none`, `studies` for those in"
            " its own folder, or another folder. Default: the space's."
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The study's name. Default: a new one from the file's name.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume the study.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and its time; start no study.")
    ] = False,
    studies: StudiesOption = STUDIES,
    on: Annotated[
        str | None,
        typer.Option(
            "--on",
            metavar="PLACE",
            help="Where the study runs: `local`, on this machine alone; `auto`, on the Ray that"
            " runs here; a file that `ray up` started; or the address of a Ray dashboard, such as"
            " http://head:8265. Default: RAY_ADDRESS, else `auto` on the head of a `ray up`"
            " cluster, else `local`.",
        ),
    ] = None,
    as_json: JsonOption = False,
    events: Annotated[
        bool, typer.Option("--events", hidden=True, help="Print each event as a line of JSON.")
    ] = False,
) -> int:
    """Run a study: search, then train and register the champion.

    Unpromising trials stop early. An interrupted study is resumed with --resume.

    Example: `raysearch launch searchspace/quickstart.yaml epochs=2 --trials 8 --name first`

    With the default space: `raysearch launch --data data/idc`

    On a cluster, from a laptop: `raysearch launch searchspace/idc.yaml --on cluster.yaml`
    """
    space, overrides = split_arguments(space, overrides)
    check_space(space, overrides, data=data, resume=resume)
    use_place(on)
    cluster = remote_cluster(on)
    check_idle_nodes(cluster, on)
    if cluster is None and not dry_run:
        code = SUPERVISOR.supervise()
        if code is not None:
            return code
        if name or resume:
            from raysearch.cli.launch_space import space_stem
            from raysearch.search.journal.study_folder import StudyFolder
            from raysearch.search.study.launcher_lock import check_no_launcher

            check_no_launcher(StudyFolder(f"{studies}/{name or space_stem(space)}"))
    from raysearch.cli.launch_study import LaunchOptions, launch_here

    options = LaunchOptions(
        space=space,
        overrides=tuple(overrides),
        data=data,
        trials=trials,
        seed=seed,
        name=name,
        resume=resume,
        dry_run=dry_run,
        studies=studies,
        as_json=as_json,
        events=events,
        cluster=cluster,
        memory=memory,
    )
    if cluster is None or dry_run:
        return launch_here(options)
    from raysearch.cli.remote_launch import launch_on_cluster

    return launch_on_cluster(options, command_line_value(context, "studies"), cluster)
