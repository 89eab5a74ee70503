"""`raysearch inspect`: checks a set of shards for problems that would invalidate a result."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from raysearch.cli.options import (
    IdentifiersOption,
    JsonOption,
    OpenOption,
    check_out_folder,
    make_console,
    open_page,
)
from raysearch.cli.progress_bar import step_progress
from raysearch.data.file_access import write_file
from raysearch.data.step_progress import StepProgress
from raysearch.metrics.row_units import PATCHES


def inspect(
    data: Annotated[str, typer.Argument(help="Folder of the shards.")],
    task: Annotated[
        str, typer.Option(help="Task whose labels to inspect, if the shards have several.")
    ] = "label",
    out: Annotated[Path, typer.Option(metavar="FILE.html", help="The HTML page to write.")] = Path(
        "inspect.html"
    ),
    outliers_csv: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.csv",
            help="Also write the names of the outliers, for `raysearch shard --exclude`.",
        ),
    ] = None,
    identifiers: IdentifiersOption = False,
    open_in_browser: OpenOption = False,
    seed: Annotated[int, typer.Option(help="Seed of samples and folds.", min=0)] = 0,
    as_json: JsonOption = False,
) -> int:
    """Inspect shards: counts, outliers, duplicates, labels, splits.

    Writes an HTML page with pictures, on which patients, slides and files have pseudonyms. The exit
    code is 1 if there are errors, such as leakage or contradictory labels.

    Example: `raysearch inspect data/idc --out idc.html`
    """
    check_out_folder(out)
    check_out_folder(outliers_csv, "--outliers-csv")
    from raysearch.cli.audit_text import audit_record, audit_tables
    from raysearch.data.audit.checks import run_checks
    from raysearch.data.audit.exclusion_list import outlier_list
    from raysearch.data.audit.findings import has_errors, summarize
    from raysearch.data.audit.shard_audit import audit_shards
    from raysearch.reports.audit_page import write_audit_page
    from raysearch.reports.displayed_names import displayed_names

    with step_progress("Reading the labels") as on_progress:
        audit = audit_shards(data, task, seed, on_progress)
        on_progress(StepProgress("Writing the page", 0, 0, PATCHES))
        findings = run_checks(audit)
        if outliers_csv is not None:
            write_file(outliers_csv, outlier_list(audit))
        write_audit_page(audit, out, displayed_names(None, identifiers=identifiers))
    if as_json:
        sys.stdout.write(json.dumps(asdict(audit_record(audit, findings))) + "\n")
    else:
        console = make_console()
        for table in audit_tables(audit, findings):
            console.print(table)
        console.print(f"{summarize(findings)} Page: {escape(str(out))}")
    if open_in_browser:
        open_page(out)
    return int(has_errors(findings))
