"""`raysearch harvest`: cuts images of stained tissue in published papers into tiles."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from raysearch.cli.options import JsonOption, make_console
from raysearch.cli.progress_bar import file_progress, step_progress
from raysearch.errors import DataError

if TYPE_CHECKING:
    from raysearch.data.harvest.ncbi import NcbiClient
    from raysearch.data.harvest.pipeline import HarvestSummary


def harvest(
    source: Annotated[
        str,
        typer.Argument(
            help="Folder of PDFs, file with one PubMed id a line, or, with --query, a query."
        ),
    ],
    out: Annotated[
        Path, typer.Argument(help="Output folder; an interrupted harvest resumes there.")
    ],
    query: Annotated[bool, typer.Option("--query", help="SOURCE is a PubMed query.")] = False,
    limit: Annotated[int, typer.Option(help="Maximum number of papers of a query.")] = 100,
    size: Annotated[int, typer.Option(help="Side of a tile in pixels.")] = 96,
    config: Annotated[
        Path | None,
        typer.Option(help="YAML file with the color filter `purple` and the `limits` of a PDF."),
    ] = None,
    email: Annotated[
        str | None,
        typer.Option(help="Your e-mail address, which NCBI requires.", envvar="RAYSEARCH_EMAIL"),
    ] = None,
    ncbi: Annotated[
        str | None,
        typer.Option(help="Base URL of a mirror of NCBI's services.", envvar="RAYSEARCH_NCBI"),
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Cut the H&E images of published papers into tiles.

    Open-access papers are downloaded once, into OUT/pdf. An API key of NCBI in the environment
    variable NCBI_API_KEY allows faster downloads.

    Example: `raysearch harvest "breast carcinoma histology" harvest --query --email me@uni.edu`
    """
    from raysearch.data.harvest.harvest_output import output_folder
    from raysearch.data.harvest.harvest_settings import read_settings
    from raysearch.data.harvest.papers import PubMed, papers_in_folder, read_pubmed_ids
    from raysearch.data.harvest.pipeline import run_harvest

    settings, path = read_settings(config, size), Path(source)
    if not query:
        _check_source(source, out)
    is_folder = not query and path.is_dir()
    client = None if is_folder else _ncbi_client(email, ncbi)
    pubmed_ids = [] if query or is_folder else read_pubmed_ids(path)
    source_name = f"query: {source}" if query else str(path.resolve())
    with output_folder(out, source_name, settings) as folder:
        with file_progress("Harvesting", "papers") as on_progress:
            if client is None:
                papers = papers_in_folder(path)
            else:
                pubmed = PubMed(client, folder / "pdf", settings.limits.file_mb * 10**6)
                papers = pubmed.papers(pubmed.search(source, limit) if query else pubmed_ids)
            summary = run_harvest(papers, folder, settings, on_progress)
        shards = _write_shards(out, summary, settings.size)
    if as_json:
        sys.stdout.write(json.dumps({**asdict(summary), "shards": shards}) + "\n")
    else:
        make_console().print(_summary_table(source, out, summary, shards))
    return 0


def _check_source(source: str, out: Path) -> None:
    """Raise DataError if the files at `source` cannot be harvested into `out`."""
    path = Path(source)
    if not path.exists():
        raise DataError(
            f"{source}: no such file or folder; give PDFs or a list of ids, or --query for a query"
        )
    if path.is_dir() and out.resolve().is_relative_to(path.resolve()):
        raise DataError(f"{out}: is inside the source folder; choose another folder")


def _ncbi_client(email: str | None, base_url: str | None) -> NcbiClient:
    """Create the client; the key is not an option, because process lists show options."""
    from raysearch.data.harvest.http_client import HttpClient
    from raysearch.data.harvest.ncbi import Contact, NcbiClient, ServiceUrls

    contact = Contact.checked(email, os.environ.get("NCBI_API_KEY", ""))
    return NcbiClient(HttpClient(contact.min_interval_s), contact, ServiceUrls.at(base_url))


def _write_shards(out: Path, summary: HarvestSummary, size: int) -> str:
    """Replace the shards of the tiles and return their folder; empty if there are no tiles."""
    from raysearch.data.shards.sharding import write_shards

    folder = out / "shards"
    shutil.rmtree(folder, ignore_errors=True)
    if not summary.num_tiles:
        return ""
    with step_progress("Sharding") as on_progress:
        write_shards(summary.tiles_folder, folder, "tiles", size=(size, size), progress=on_progress)
    return str(folder)


def _summary_table(source: str, out: Path, summary: HarvestSummary, shards: str) -> Table:
    rejected = f"{summary.num_rejected:,}"
    rows = {
        "papers": f"{summary.num_papers:,}",
        "rejected": rejected + (f", see {out}/rejected.csv" if summary.num_rejected else ""),
        "images": f"{summary.num_images:,}: {summary.num_selected:,} selected,"
        f" {summary.num_excluded:,} excluded, {summary.num_duplicates:,} duplicates, see"
        f" {out}/images.csv",
        "contact sheets": ", ".join(summary.contact_sheets) or "none, because there are no images",
        "tiles": f"{summary.num_tiles:,} in {summary.tiles_folder}",
        "labels": f"to be filled in: {out}/labels.csv, for `raysearch shard`"
        if summary.num_tiles
        else "none",
        "shards": shards or "none",
    }
    table = Table(title=f"Harvested {escape(source)}", title_justify="left", show_header=False)
    for name, text in rows.items():
        table.add_row(name, escape(text))
    return table
