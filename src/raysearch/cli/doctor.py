"""`raysearch doctor`: checks the nodes before a study starts."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from raysearch.cli.options import (
    STUDIES,
    JsonOption,
    OnOption,
    StudiesOption,
    command_line_value,
    make_console,
    studies_of_cluster,
)
from raysearch.cli.package_licenses import InstalledPackage, installed_packages, package_table
from raysearch.cli.supervisor import SUPERVISOR
from raysearch.config.json_values import parse_json
from raysearch.config.run_location import RemoteCluster, remote_cluster, use_place
from raysearch.errors import StudyError

if TYPE_CHECKING:
    from raysearch.search.engine.cluster_checks import Check


@dataclass(frozen=True)
class DoctorReport:
    """What the doctor found.

    Attributes:
        checks: The checks of all nodes.
        packages: The packages that are installed on this machine, or on the head of a cluster.
    """

    checks: list[Check]
    packages: list[InstalledPackage]


def doctor(
    context: typer.Context,
    on: OnOption = None,
    studies: StudiesOption = STUDIES,
    nodes: Annotated[int | None, typer.Option(help="The expected number of machines.")] = None,
    as_json: JsonOption = False,
) -> int:
    """Check nodes: versions, GPUs, storage, tracking, clocks, disk.

    A second table lists the versions and licenses of the packages that raysearch requires; with
    --json, of all that are installed. Exits with 1 if a check fails.

    Example: `raysearch doctor --on cluster.yaml`
    """
    use_place(on)
    # Here, --studies says what is checked, and not where.
    cluster = remote_cluster(on)
    code = SUPERVISOR.supervise() if cluster is None else None
    if code is not None:
        return code
    console = make_console(stderr=as_json)
    with console.status("Checking every node"):
        if cluster is None:
            report = DoctorReport(_check_here(studies, nodes), installed_packages())
        else:
            option = command_line_value(context, "studies")
            report = _check_remotely(cluster, studies_of_cluster(cluster, option), nodes)
    if as_json:
        sys.stdout.write(json.dumps(asdict(report)) + "\n")
    else:
        console.print(_table(report.checks))
        console.print(package_table(report.packages))
    return 0 if all(check.passed for check in report.checks) else 1


def _check_here(studies: str, nodes: int | None) -> list[Check]:
    from raysearch.search.engine.cluster_checks import check_cluster
    from raysearch.search.engine.ray_session import ray_session
    from raysearch.search.tracking.tracking_store import store_error

    with ray_session():
        return check_cluster(studies, nodes, store_error)


def _check_remotely(cluster: RemoteCluster, studies: str | None, nodes: int | None) -> DoctorReport:
    from raysearch.search.engine.cluster_checks import Check
    from raysearch.search.engine.cluster_jobs import connected_jobs
    from raysearch.search.engine.cluster_tunnel import initial_num_nodes
    from raysearch.search.journal.codec import record_from_json

    command = ["doctor", "--json"]
    if nodes is None and not cluster.is_address:
        nodes = initial_num_nodes(Path(cluster.place))
    command += [] if nodes is None else ["--nodes", str(nodes)]
    command += [] if studies is None else ["--studies", studies]
    lines: list[str] = []
    with connected_jobs(cluster, lambda _text: None) as jobs:
        for line in jobs.run(command):
            lines.append(line)
            if line.startswith('{"checks"') and isinstance(content := _parse(line), dict):
                return DoctorReport(
                    [record_from_json(Check, check) for check in content["checks"]],
                    [record_from_json(InstalledPackage, entry) for entry in content["packages"]],
                )
    advice = (
        "see its log in the dashboard" if cluster.is_address else f"run `ray up {cluster}` again"
    )
    raise StudyError(f"the head could not run the checks ({_last_line(lines)}); {advice}")


def _parse(line: str) -> object:
    """Parse JSON; None if the line, which may have been cut, is none."""
    try:
        return parse_json(line)
    except ValueError:
        return None


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
