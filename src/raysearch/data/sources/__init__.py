"""Where patches come from: each source is one function and one line in `SOURCES`.

A source lists what is there without decoding it: `Item`s to decode and `Rejected` files by name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from raysearch.data.files import Folder
from raysearch.data.shards.shard_manifest import LABEL
from raysearch.data.sources.archive import is_archive, unpack
from raysearch.data.sources.breakhis import breakhis, is_breakhis
from raysearch.data.sources.class_folders import folder_source
from raysearch.data.sources.csv_table import csv_source, is_csv
from raysearch.data.sources.harvested_tiles import is_harvest, tiles
from raysearch.data.sources.idc import idc, is_idc
from raysearch.data.sources.listing import Ask, Item, Listing
from raysearch.data.sources.pcam import is_pcam, pcam
from raysearch.data.sources.pcam_kaggle import is_kaggle, pcam_kaggle
from raysearch.data.sources.synthetic_source import is_synthetic, synthetic
from raysearch.errors import DataError


class Source(NamedTuple):
    """How to list a source, and how to tell its layout where that is unmistakable."""

    listing: Callable[[str, Ask], Listing]
    recognise: Callable[[str], bool] = lambda _source: False


SOURCES = {
    "synthetic": Source(synthetic, is_synthetic),
    "csv": Source(csv_source, is_csv),
    "pcam": Source(pcam, is_pcam),
    "pcam-kaggle": Source(pcam_kaggle, is_kaggle),
    "breakhis": Source(breakhis, is_breakhis),
    "idc": Source(idc, is_idc),
    "tiles": Source(tiles, is_harvest),
    "folder": Source(folder_source),
}


READ_BY = {
    "--patient": ("folder",),
    "--classes": ("folder", "csv"),
    "--magnification": ("breakhis",),
    "--official": ("pcam-kaggle",),
}
MAX_CLASSES = 1000


def detect(place: str, source: str) -> str:
    """The format of what `source` holds at `place`; DataError where its layout does not tell."""
    for form, one in SOURCES.items():
        if one.recognise(place):
            return form
    if not Folder(place).exists():
        raise DataError(f"{source}: no such file or folder; give what holds the images")
    raise DataError(
        f"{source}: its layout does not tell its format; name it by --format, one of"
        f" {', '.join(SOURCES)}"
    )


def list_source(source: str, form: str | None, ask: Ask) -> tuple[str, Listing]:
    """The format of `source`, `form` where it is named, and what it holds by it.

    DataError for an unknown format, a folder that is missing or empty, and for two labels at one
    place of one slide.
    """
    if form is not None and form not in SOURCES:
        raise DataError(f"--format {form!r} is unknown; one of {', '.join(SOURCES)}")
    place, rejected = unpack(source, ask.scratch) if is_archive(source) else (source, [])
    form = form or detect(place, source)
    _reject_unread(form, ask)
    listing = SOURCES[form].listing(place, ask)
    listing = replace(listing, rejected=[*listing.rejected, *rejected])
    if not listing.items and not listing.rejected:
        raise DataError(f"{source}: no files in it; give the folder that holds the images")
    for name, names in ((LABEL, listing.class_names), *listing.tasks):
        if len(names) > MAX_CLASSES:
            raise DataError(
                f"{source}: {len(names):,} classes in {name}, {MAX_CLASSES:,} at most; see that"
                " its column holds labels"
            )
    _reject_contradictions(listing.items)
    return form, listing


def _reject_unread(form: str, ask: Ask) -> None:
    given = {
        "--patient": ask.patient,
        "--classes": ask.classes,
        "--magnification": ask.magnifications,
        "--official": ask.official,
    }
    for option, value in given.items():
        if value and form not in READ_BY[option]:
            raise DataError(
                f"{option}: nothing of format {form} reads it, only {', '.join(READ_BY[option])};"
                " leave it out"
            )
    if len(set(ask.classes)) < len(ask.classes) or "" in ask.classes:
        raise DataError(f"--classes {','.join(ask.classes)}: a name is empty or there twice")


def _reject_contradictions(items: Sequence[Item]) -> None:
    seen: dict[tuple[str, str, int | None, int, int], Item] = {}
    for item in items:
        if item.x is None or item.y is None:
            continue
        place = (item.patient, item.slide, item.magnification, item.x, item.y)
        other = seen.setdefault(place, item)
        if other.label != item.label:
            raise DataError(
                f"two labels for patient {item.patient} at x {item.x}, y {item.y}: {other.file} and"
                f" {item.file}; remove the wrong one"
            )


def most_frequent(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The size that most images have; among equals the largest."""
    counts = Counter(sizes)
    return max(counts, key=lambda size: (counts[size], size))
