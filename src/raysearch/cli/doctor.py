"""`raysearch doctor`: checks the nodes before a study starts."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from raysearch.cli.options import (
    STUDIES,
    JsonOption,
    StudiesOption,
    command_line_value,
    make_console,
)
from raysearch.errors import StudyError

if TYPE_CHECKING:
    from raysearch.search.engine.cluster_checks import Check


def doctor(
    context: typer.Context,
    cluster: Annotated[
        Path | None, typer.Option(help="Check the cluster that `ray up` started with this file.")
    ] = None,
    studies: StudiesOption = STUDIES,
    nodes: Annotated[int | None, typer.Option(help="The expected number of machines.")] = None,
    as_json: JsonOption = False,
) -> int:
    """Check every node: versions, GPUs, storage, tracking, clocks, disk, token, dashboard.

    Exits with 1 if a check fails.

    Example: `raysearch doctor --cluster cluster.yaml`
    """
    console = make_console(stderr=as_json)
    with console.status("Checking every node"):
        if cluster is None:
            checks = _check_here(studies, nodes)
        else:
            checks = _check_remotely(cluster, command_line_value(context, "studies"), nodes)
    if as_json:
        sys.stdout.write(json.dumps([asdict(check) for check in checks]) + "\n")
    else:
        console.print(_table(checks))
    return 0 if all(check.passed for check in checks) else 1


def _check_here(studies: str, nodes: int | None) -> list[Check]:
    from raysearch.search.engine.cluster_checks import check_cluster
    from raysearch.search.engine.ray_session import ray_session
    from raysearch.search.tracking.tracking_store import store_error

    with ray_session():
        return check_cluster(studies, nodes, store_error)


def _check_remotely(cluster: Path, studies: str | None, nodes: int | None) -> list[Check]:
    from raysearch.search.engine.cluster_checks import Check
    from raysearch.search.engine.cluster_jobs import cluster_tunnel, initial_num_nodes
    from raysearch.search.journal.codec import record_from_json

    command = ["doctor", "--json", "--nodes", str(nodes or initial_num_nodes(cluster))]
    command += [] if studies is None else ["--studies", studies]
    lines = []
    with cluster_tunnel(cluster, lambda _text: None) as jobs:
        for line in jobs.run(command):
            lines.append(line)
            if line.startswith('[{"name"'):
                return [record_from_json(Check, content) for content in json.loads(line)]
    raise StudyError(
        f"the head could not run the checks ({_last_line(lines)}); run `ray up {cluster}` again"
    )


def _last_line(lines: Iterable[str]) -> str:
    texts = [line.strip() for line in lines if line.strip()]
    return texts[-1][:200] if texts else "no output"


def _table(checks: Iterable[Check]) -> Table:
    table = Table("", "check", "result", "advice")
    for check in checks:
        mark = "[green]pass[/]" if check.passed else "[red]fail[/]"
        advice = "" if check.passed else check.advice
        table.add_row(mark, check.name, escape(check.details), escape(advice))
    return table
