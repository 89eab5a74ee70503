"""Sources whose images are listed, but not decoded."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from raysearch.data.sources import list_source
from raysearch.data.sources.listing import Item, Listing, SourceOptions


def write_files(folder: Path, *files: str) -> Path:
    """Write files that are not empty, and return their folder."""
    for file in files:
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"image")
    return folder


def write_zip(path: Path, names: Iterable[str], content: bytes = b"image") -> Path:
    """Write a zip archive with files of these names, exactly as they are."""
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
        warnings.simplefilter("ignore")  # a name may occur twice
        for name in names:
            entry = zipfile.ZipInfo("name")
            entry.filename = name
            archive.writestr(entry, content)
    return path


def list_images(
    source: Path, tmp_path: Path, source_format: str | None = None, **options: Any
) -> Listing:
    """List `source` with the `SourceOptions` `options`; archives are unpacked in `tmp_path`."""
    scratch = tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)
    return list_source(str(source), source_format, SourceOptions(scratch=scratch, **options))[1]


def labels_by_file(listing: Listing) -> dict[str, str]:
    """Return the class name of each listed file."""
    return {
        item.file: listing.class_names[item.label]
        for item in listing.items
        if item.label is not None
    }


def items_by_file(listing: Listing) -> dict[str, Item]:
    """Return each listed item by its file."""
    return {item.file: item for item in listing.items}


def reasons(listing: Listing) -> dict[str, str]:
    """Return the reason of each rejected file."""
    return dict(listing.rejected)
