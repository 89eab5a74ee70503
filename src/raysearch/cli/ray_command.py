"""`raysearch ray`: runs a command of Ray over ssh connections that no other account can use."""

from __future__ import annotations

from typing import Annotated

import typer


def ray(
    command: Annotated[
        str, typer.Argument(help="A command of Ray: `up`, `down`, `attach`, `exec`, `rsync-up`.")
    ],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            help="Arguments of that command; write `--` before options of Ray, such as `-- --yes`."
        ),
    ] = None,
) -> int:
    """Start or stop a cluster as `ray` does, over checked ssh.

    The command is rejected if another account of this machine could use Ray's control sockets. With
    `--known-hosts`, ssh connects only to hosts whose keys are in that file; Ray checks no keys.

    Example: `raysearch ray --known-hosts hosts up cluster.yaml -- --yes`
    """
    from raysearch.search.engine.cluster_ssh import run_ray

    return run_ray([command, *(arguments or [])])
