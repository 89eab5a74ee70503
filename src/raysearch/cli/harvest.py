"""`raysearch harvest`: tiles of stained tissue out of published papers."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from raysearch.cli.options import make_console
from raysearch.cli.shard import file_progress
from raysearch.errors import DataError

if TYPE_CHECKING:
    from raysearch.data.harvest.ncbi import Ncbi
    from raysearch.data.harvest.pipeline import Harvest


def harvest(
    source: Annotated[
        str,
        typer.Argument(
            help="A folder of PDFs, a file with a PubMed id a line, or, with --query, a query."
        ),
    ],
    out: Annotated[Path, typer.Argument(help="The folder for tiles and tables; goes on there.")],
    query: Annotated[bool, typer.Option("--query", help="SOURCE is a PubMed query.")] = False,
    limit: Annotated[int, typer.Option(help="The most papers of a query.")] = 100,
    size: Annotated[int, typer.Option(help="The side of a tile in pixels.")] = 96,
    config: Annotated[
        Path | None, typer.Option(help="A YAML file: what is purple, and how far a PDF may go.")
    ] = None,
    email: Annotated[
        str | None,
        typer.Option(help="Your address, which NCBI asks for.", envvar="RAYSEARCH_EMAIL"),
    ] = None,
    ncbi: Annotated[
        str | None, typer.Option(help="An address in NCBI's place.", envvar="RAYSEARCH_NCBI")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Cut the H&E images of published papers into tiles.

    Open-access papers are fetched once, into OUT/pdf; with NCBI_API_KEY in the environment, faster.

    Example: `raysearch harvest "breast carcinoma histology" harvest --query --email me@uni.edu`
    """
    from raysearch.data.harvest.output import claimed
    from raysearch.data.harvest.papers import PubMed, folder_papers, read_ids
    from raysearch.data.harvest.pipeline import harvest as gather
    from raysearch.data.harvest.settings_file import read_settings

    settings, path = read_settings(config, size), Path(source)
    if not query:
        _reject_source(source, out)
    from_folder = not query and path.is_dir()
    asked = None if from_folder else _asked(email, ncbi)
    ids = [] if query or from_folder else read_ids(path)
    named = f"query: {source}" if query else str(path.resolve())
    with claimed(out, named, settings) as folder:
        with file_progress("Harvesting") as update:
            if asked:
                pubmed = PubMed(asked, folder / "pdf", settings.limits.file_mb * 10**6)
                papers = pubmed.papers(pubmed.found(source, limit) if query else ids)
            else:
                papers = folder_papers(path)
            done = gather(papers, folder, settings, update)
        shards = _shards(out, done, settings.size)
    if as_json:
        sys.stdout.write(json.dumps({**done.dump(), "shards": shards}) + "\n")
    else:
        make_console().print(_table(source, out, done, shards))
    return 0


def _reject_source(source: str, out: Path) -> None:
    """DataError where the files at `source` cannot be harvested into `out`."""
    path = Path(source)
    if not path.exists():
        raise DataError(
            f"{source}: no such file or folder; give PDFs or a list of ids, or --query for a query"
        )
    if path.is_dir() and out.resolve().is_relative_to(path.resolve()):
        raise DataError(f"{out}: lies in the folder that is read; name another folder")


def _shards(out: Path, done: Harvest, size: int) -> str:
    """The folder of shards of the tiles, made anew; empty where there are no tiles."""
    from raysearch.data.shards.sharding import write_shards

    place = out / "shards"
    shutil.rmtree(place, ignore_errors=True)
    if not done.tiles:
        return ""
    with file_progress("Sharding") as update:
        write_shards(done.folder, place, "tiles", size=(size, size), progress=update)
    return str(place)


def _asked(email: str | None, base: str | None) -> Ncbi:
    """NCBI's services; the key comes from the environment, where no list of processes shows it."""
    from raysearch.data.harvest.http import Web
    from raysearch.data.harvest.ncbi import Ncbi, contact_of, services_at

    contact = contact_of(email, os.environ.get("NCBI_API_KEY", ""))
    return Ncbi(Web(contact.gap_s), contact, services_at(base))


def _table(source: str, out: Path, done: Harvest, shards: str) -> Table:
    dropped = done.images - done.kept - done.duplicates
    rows = {
        "papers": f"{done.papers:,}",
        "rejected": f"{done.rejected:,}" + (f", see {out}/rejected.csv" if done.rejected else ""),
        "images": f"{done.images:,}: {done.kept:,} kept, {dropped:,} dropped,"
        f" {done.duplicates:,} duplicates, see {out}/images.csv",
        "look at": ", ".join(done.sheets) or "no image in any paper",
        "tiles": f"{done.tiles:,} in {done.folder}",
        "shards": shards or "none",
    }
    table = Table(title=f"Harvested {source}", title_justify="left", show_header=False)
    for name, text in rows.items():
        table.add_row(name, text)
    return table
