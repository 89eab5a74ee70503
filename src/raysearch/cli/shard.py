"""`raysearch shard`: decodes images once into Parquet shards."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from raysearch.cli.options import JsonOption, make_console
from raysearch.cli.progress_bar import file_progress
from raysearch.errors import DataError

if TYPE_CHECKING:
    from raysearch.data.shards.shard_manifest import Manifest

# `Path` removes one slash of an address such as s3://bucket.
ADDRESS = re.compile(r"[a-z][a-z0-9]+:/")


def shard(
    source: Annotated[
        str,
        typer.Argument(
            help="A folder, an archive or a CSV file of images; PATIENTS:PATCHES:SEED generates"
            " synthetic patches."
        ),
    ],
    out: Annotated[Path, typer.Argument(help="The new folder for the shards.")],
    source_format: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="csv, folder, idc, pcam, pcam-kaggle, breakhis, tiles or synthetic."
            " Default: detected.",
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(help="N or WxH. Default: the data set's own, or the most frequent."),
    ] = None,
    patient: Annotated[
        str | None,
        typer.Option(help="For folder: a regular expression whose first group is the patient."),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(help="For folder and csv: the classes in order, separated by commas."),
    ] = None,
    magnification: Annotated[
        str | None, typer.Option(help="For breakhis: the magnifications, such as 40,100.")
    ] = None,
    official: Annotated[
        str | None,
        typer.Option(help="For pcam-kaggle: the folder of PCam's HDF5 and meta files."),
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Decode images once, on all cores, into Parquet shards with a manifest.

    Example: `raysearch shard 24:1200:0 data/synthetic --format synthetic`
    """
    from raysearch.data.shards.sharding import parse_size, write_shards
    from raysearch.data.sources.listing import SourceOptions

    if ADDRESS.match(str(out)):
        raise DataError(
            f"{out}: shards are written to a local folder; name one, and copy it to the storage"
        )
    patch_size = None if size is None else parse_size(size)
    options = SourceOptions(
        patient=patient,
        classes=tuple(classes.split(",")) if classes else (),
        magnifications=_parse_magnifications(magnification),
        official=official,
    )
    with file_progress("Sharding") as update:
        manifest = write_shards(
            source, out, source_format, size=patch_size, options=options, progress=update
        )
    if as_json:
        sys.stdout.write(json.dumps(json.loads(manifest.dump())) + "\n")
    else:
        make_console().print(_table(source, out, manifest))
    return 0


def _table(source: str, out: Path, manifest: Manifest) -> Table:
    class_counts = zip(manifest.class_names, manifest.class_counts, strict=True)
    rows = {
        "files": f"{manifest.files:,}",
        "patches": f"{manifest.rows:,}: "
        + ", ".join(f"{count:,} {name}" for name, count in class_counts),
        "rejected": f"{manifest.rejected:,}"
        + (f", see {out}/rejected.csv" if manifest.rejected else ""),
        "patients": f"{manifest.patients:,}",
        "size": f"{manifest.shape[1]}x{manifest.shape[0]}: "
        + ", ".join(f"{count:,} {mode}" for mode, count in manifest.resize_modes.items()),
        "shards": f"{len(manifest.shards)} in {out}",
    }
    table = Table(title=f"Sharded {escape(source)}", title_justify="left", show_header=False)
    for name, text in rows.items():
        table.add_row(name, escape(text))
    for warning in manifest.warnings:
        table.add_row("[yellow]warning[/]", escape(warning))
    return table


def _parse_magnifications(text: str | None) -> tuple[int, ...]:
    words = text.split(",") if text else []
    if not all(word.isascii() and word.isdigit() and len(word) < 6 for word in words):
        raise DataError(f"--magnification {text!r}: not numbers; give such as 40,100")
    return tuple(map(int, words))
