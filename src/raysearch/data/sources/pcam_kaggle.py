"""PatchCamelyon as Kaggle distributes it: without duplicates, and without the slides."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator

from raysearch.data.files import Folder
from raysearch.data.isolated_subprocess import IsolatedProcessError, run_isolated
from raysearch.data.shards.decoding import RejectedImageError
from raysearch.data.shards.hdf5 import row_digests
from raysearch.data.sources.file_paths import existing, files_of
from raysearch.data.sources.listing import ALONE, Ask, Item, Listing, Rejected
from raysearch.data.sources.pcam import (
    CLASSES,
    LIMIT_S,
    MEMORY_BYTES,
    SIZE,
    STEM,
    Origin,
    images_of,
    origins_of,
    parts_of,
    site_of,
)
from raysearch.errors import DataError

LABELS = "train_labels.csv"
TRAIN = "train"
ID = re.compile(r"[0-9a-f]{40}")
ADVICE = "name PCam's official HDF5 and meta files by --official"


def pcam_kaggle(source: str, ask: Ask) -> Listing:
    """`train/<id>.tif` and `train_labels.csv` (`id,label`).

    An id is the SHA-1 of the pixels, so the official files tell each patch's slide.
    """
    folder = existing(source)
    labels = _labels(folder)
    origins = _origins(ask) if ask.official else {}
    files, rejected = files_of(folder / TRAIN)
    items: list[Item] = []
    for file in files:
        name = file.removesuffix(".tif")
        if not ID.fullmatch(name):
            rejected.append(Rejected(f"{TRAIN}/{file}", "not named ID.tif"))
        elif name not in labels:
            rejected.append(Rejected(f"{TRAIN}/{file}", f"not in {LABELS}"))
        else:
            items.append(_item(name, labels[name], origins.get(name)))
    there = {item.file for item in items}
    rejected += [
        Rejected(f"{TRAIN}/{name}.tif", f"in {LABELS}, and not there")
        for name in labels
        if f"{TRAIN}/{name}.tif" not in there
    ]
    return Listing(CLASSES, items, rejected, SIZE, _warnings(items, ask), folder=folder)


def is_kaggle(source: str) -> bool:
    """Whether the labels and the folder are there."""
    folder = Folder(source)
    return folder.exists(LABELS) and folder.exists(TRAIN)


def _labels(folder: Folder) -> dict[str, int]:
    if not folder.exists(LABELS):
        raise DataError(f"{folder.path(LABELS)}: no such file; unpack the archive there")
    text = folder.read(LABELS).decode("utf-8", "replace")
    reader = csv.DictReader(io.StringIO(text, newline=""))
    labels: dict[str, int] = {}
    for row in _rows(reader, folder):
        name, label = row.get("id") or "", row.get("label") or ""
        known = ID.fullmatch(name) and label in ("0", "1")
        if not known or labels.get(name, int(label)) != int(label):
            raise DataError(
                f"{folder.path(LABELS)}: line {reader.line_num} is not ID,0|1 of an id of its own;"
                " take the official file"
            )
        labels[name] = int(label)
    return labels


def _rows(reader: csv.DictReader[str], folder: Folder) -> Iterator[dict[str, str]]:
    try:
        yield from reader
    except csv.Error as error:
        raise DataError(
            f"{folder.path(LABELS)}: line {reader.line_num}: {error}; take the official file"
        ) from None


def _origins(ask: Ask) -> dict[str, Origin]:
    """Where the patch of each id is from, by the official files."""
    official = existing(str(ask.official))
    found: dict[str, Origin] = {}
    for part in parts_of(official):
        origins = origins_of(official, part)
        if origins is None:
            continue
        try:
            file, rows = images_of(official, part, ask.scratch)
            digests = run_isolated(
                row_digests,
                str(ask.scratch / file),
                limit_s=60 * LIMIT_S,
                memory_bytes=MEMORY_BYTES,
            )
        except (RejectedImageError, IsolatedProcessError) as error:
            raise DataError(f"{STEM}{part}: {error}; take the official file") from None
        if rows != len(origins):
            raise DataError(f"{STEM}{part}: {rows:,} in x, {len(origins):,} in meta; take one part")
        for digest, origin in zip(digests, origins, strict=True):
            found.setdefault(digest, origin)
    if not found:
        raise DataError(f"--official {ask.official}: no HDF5 with its meta file in it")
    return found


def _item(name: str, label: int, origin: Origin | None) -> Item:
    file = f"{TRAIN}/{name}.tif"
    if origin is None:
        return Item(file, label, name)
    slide = origin.slide
    return Item(file, label, slide, slide, origin.x, origin.y, site=site_of(slide))


def _warnings(items: list[Item], ask: Ask) -> tuple[str, ...]:
    alone = sum(not item.slide for item in items)
    if not ask.official:
        return (ALONE.format(advice=ADVICE),)
    if alone:
        return (f"{alone:,} patches are not among the official ones, and count as slides alone",)
    return ()
