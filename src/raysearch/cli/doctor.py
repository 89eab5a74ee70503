"""`raysearch doctor`: what could spoil a study here, before anything is spent."""

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

from raysearch.cli.options import STUDIES, StudiesOption, given, make_console
from raysearch.errors import StudyError

if TYPE_CHECKING:
    from raysearch.search.engine.doctor import Check


def doctor(
    context: typer.Context,
    cluster: Annotated[
        Path | None, typer.Option(help="Look at the cluster that `ray up` made of this file.")
    ] = None,
    studies: StudiesOption = STUDIES,
    nodes: Annotated[int | None, typer.Option(help="How many machines should be there.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Check every node: versions, GPUs, storage, tracking, clocks, disk, token, dashboard.

    Exit code 1 where one of them fails.

    Example: `raysearch doctor --cluster cluster.yaml`
    """
    console = make_console(stderr=as_json)
    with console.status("Looking at every node"):
        if cluster is None:
            checks = _here(studies, nodes)
        else:
            checks = _there(cluster, given(context, "studies"), nodes)
    if as_json:
        sys.stdout.write(json.dumps([asdict(check) for check in checks]) + "\n")
    else:
        console.print(_table(checks))
    return 0 if all(check.good for check in checks) else 1


def _here(studies: str, nodes: int | None) -> list[Check]:
    from raysearch.search.engine.doctor import examine
    from raysearch.search.engine.session import ray_session

    with ray_session():
        return examine(studies, nodes)


def _there(cluster: Path, studies: str | None, nodes: int | None) -> list[Check]:
    from raysearch.search.engine.cluster_jobs import machines_of, tunnel
    from raysearch.search.engine.doctor import Check

    words = ["doctor", "--json", "--nodes", str(nodes or machines_of(cluster))]
    words += [] if studies is None else ["--studies", studies]
    said = []
    with tunnel(cluster, lambda _text: None) as jobs:
        for line in jobs.run(words):
            said.append(line)
            if line.startswith('[{"name"'):
                return [Check(**one) for one in json.loads(line)]
    raise StudyError(f"the head could not look ({_last(said)}); run `ray up {cluster}` again")


def _last(lines: Iterable[str]) -> str:
    kept = [line.strip() for line in lines if line.strip()]
    return kept[-1][:200] if kept else "it said nothing"


def _table(checks: Iterable[Check]) -> Table:
    table = Table("", "what", "seen", "what to do")
    for check in checks:
        mark = "[green]pass[/]" if check.good else "[red]fail[/]"
        advice = "" if check.good else check.advice
        table.add_row(mark, check.name, escape(check.seen), escape(advice))
    return table
