"""`raysearch shard`: images decoded once into Parquet shards."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from raysearch.cli.options import make_console


@contextmanager
def file_progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error; the function takes (files done, all files)."""
    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, every: bar.update(task, completed=done, total=every)


def shard(
    source: Annotated[
        str, typer.Argument(help="The images' folder; PATIENTS:PATCHES:SEED for synthetic ones.")
    ],
    out: Annotated[Path, typer.Argument(help="The new folder for the shards.")],
    form: Annotated[str, typer.Option("--format", help="idc, folder or synthetic.")],
    size: Annotated[
        str | None,
        typer.Option(help="N or WxH. Default: idc and synthetic 50, folder the most frequent."),
    ] = None,
    patient: Annotated[
        str | None,
        typer.Option(help="For folder: a regular expression whose first group is the patient."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Decode images once, on all cores, into Parquet shards with a manifest.

    Example: `raysearch shard 24:1200:0 data/synthetic --format synthetic`
    """
    from raysearch.data.shards import parse_size, write_shards

    wanted = parse_size(size) if size else None
    with file_progress("Sharding") as update:
        manifest = write_shards(source, out, form, size=wanted, patient=patient, progress=update)
    if as_json:
        sys.stdout.write(json.dumps(json.loads(manifest.dump())) + "\n")
        return 0
    counts = zip(manifest.class_names, manifest.class_counts, strict=True)
    rows = {
        "files": f"{manifest.files:,}",
        "patches": f"{manifest.rows:,}: "
        + ", ".join(f"{count:,} {name}" for name, count in counts),
        "refused": f"{manifest.refused:,}"
        + (f", see {out}/refused.csv" if manifest.refused else ""),
        "patients": f"{manifest.patients:,}",
        "size": f"{manifest.shape[1]}x{manifest.shape[0]}: "
        + ", ".join(f"{count:,} {how}" for how, count in manifest.fitted.items()),
        "shards": f"{len(manifest.shards)} in {out}",
    }
    table = Table(title=f"Sharded {source}", title_justify="left", show_header=False)
    for name, text in rows.items():
        table.add_row(name, text)
    for warning in manifest.warnings:
        table.add_row("[yellow]warning[/]", warning)
    make_console().print(table)
    return 0
