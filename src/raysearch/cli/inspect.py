"""`raysearch inspect`: what a set of shards holds, and what of it would flatter a result."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from raysearch.cli.options import make_console
from raysearch.cli.shard import file_progress
from raysearch.errors import DataError


def inspect(
    data: Annotated[str, typer.Argument(help="The folder of shards.")],
    task: Annotated[str, typer.Option(help="What is learned, where the shards have several.")] = (
        "label"
    ),
    html: Annotated[Path, typer.Option(help="The page to write.")] = Path("inspect.html"),
    seed: Annotated[int, typer.Option(help="Of samples and folds.", min=0)] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Look at a set of shards: counts, outliers, duplicates, labels and splits.

    Writes a page with pictures. Leaves with exit code 1 where something found would make a result
    dishonest.

    Example: `raysearch inspect data/idc --html idc.html`
    """
    from raysearch.cli import audit_text as text
    from raysearch.cli.audit_page import write_page
    from raysearch.data.audit.audit import audit
    from raysearch.data.audit.checks import find
    from raysearch.data.audit.finding import DISHONEST

    if not html.parent.is_dir():
        raise DataError(f"--html {html}: no folder {html.parent}; make it, or name another")
    with file_progress("Inspecting") as update:
        found = audit(data, task, seed, update)
    findings = find(found)
    write_page(found, findings, html)
    if as_json:
        sys.stdout.write(json.dumps(text.as_json(found, findings)) + "\n")
    else:
        console = make_console()
        for table in text.tables(found, findings):
            console.print(table)
        console.print(f"{text.decision(findings)} Pictures: {escape(str(html))}")
    return int(any(one.severity == DISHONEST for one in findings))
