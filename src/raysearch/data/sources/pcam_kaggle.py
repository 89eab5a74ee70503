"""Lists PatchCamelyon as Kaggle distributes it: without duplicates and without slide names."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator

from raysearch.data.files import Folder
from raysearch.data.images.decoding import RejectedImageError
from raysearch.data.images.hdf5 import image_sha1s
from raysearch.data.isolated_subprocess import IsolatedProcessError, run_isolated
from raysearch.data.sources.file_paths import list_files, require_folder
from raysearch.data.sources.listing import (
    UNKNOWN_PATIENTS,
    Item,
    Listing,
    Rejected,
    SourceOptions,
)
from raysearch.data.sources.pcam import (
    CENTER,
    CLASSES,
    FILE_PREFIX,
    MEMORY_BYTES,
    SIZE,
    TIMEOUT_S,
    Origin,
    available_splits,
    open_images,
    read_origins,
    site_of_slide,
)
from raysearch.errors import DataError

LABEL_FILE = "train_labels.csv"
IMAGE_FOLDER = "train"
IMAGE_ID = re.compile(r"[0-9a-f]{40}")
ADVICE = "name the folder of PCam's official HDF5 and meta files with --official"


def list_pcam_kaggle(source: str, options: SourceOptions) -> Listing:
    """List `train/<id>.tif` and `train_labels.csv` (`id,label`).

    An id is the SHA-1 of the pixels, so the slide of a patch is found with the official files.
    """
    folder = require_folder(source)
    labels = _read_labels(folder)
    origins = _origins_by_id(options) if options.official else {}
    files, rejected = list_files(folder / IMAGE_FOLDER)
    items: list[Item] = []
    for file in files:
        image_id = file.removesuffix(".tif")
        if not IMAGE_ID.fullmatch(image_id):
            rejected.append(Rejected(f"{IMAGE_FOLDER}/{file}", "not named ID.tif"))
        elif image_id not in labels:
            rejected.append(Rejected(f"{IMAGE_FOLDER}/{file}", f"not in {LABEL_FILE}"))
        else:
            items.append(_item(image_id, labels[image_id], origins.get(image_id)))
    item_files = {item.file for item in items}
    rejected += [
        Rejected(f"{IMAGE_FOLDER}/{image_id}.tif", f"in {LABEL_FILE}, but missing")
        for image_id in labels
        if f"{IMAGE_FOLDER}/{image_id}.tif" not in item_files
    ]
    warnings = _warnings(items, options)
    return Listing(CLASSES, items, rejected, SIZE, warnings, folder, center=CENTER)


def is_pcam_kaggle(source: str) -> bool:
    """Whether the file of the labels and the folder of the images exist."""
    folder = Folder(source)
    return folder.exists(LABEL_FILE) and folder.exists(IMAGE_FOLDER)


def _read_labels(folder: Folder) -> dict[str, int]:
    if not folder.exists(LABEL_FILE):
        raise DataError(f"{folder.path(LABEL_FILE)}: no such file; unpack the archive there")
    text = folder.read(LABEL_FILE).decode("utf-8-sig", "replace")
    reader = csv.DictReader(io.StringIO(text, newline=""))
    labels: dict[str, int] = {}
    for row in _rows(reader, folder):
        image_id, label = row.get("id") or "", row.get("label") or ""
        is_valid = IMAGE_ID.fullmatch(image_id) and label in ("0", "1")
        if not is_valid or labels.get(image_id, int(label)) != int(label):
            raise DataError(
                f"{folder.path(LABEL_FILE)}: line {reader.line_num} is not ID,0|1 with a unique id;"
                " take the official file"
            )
        labels[image_id] = int(label)
    return labels


def _rows(reader: csv.DictReader[str], folder: Folder) -> Iterator[dict[str, str]]:
    try:
        yield from reader
    except csv.Error as error:
        raise DataError(
            f"{folder.path(LABEL_FILE)}: line {reader.line_num}: {error}; take the official file"
        ) from None


def _origins_by_id(options: SourceOptions) -> dict[str, Origin]:
    """The origin of the patch with each id, from the official files."""
    official = require_folder(str(options.official))
    origins_by_id: dict[str, Origin] = {}
    for split in available_splits(official):
        origins = read_origins(official, split)
        if origins is None:
            continue
        try:
            file, num_rows = open_images(official, split, options.scratch)
            image_ids = run_isolated(
                image_sha1s,
                str(options.scratch / file),
                timeout_s=60 * TIMEOUT_S,
                memory_bytes=MEMORY_BYTES,
            )
        except (RejectedImageError, IsolatedProcessError) as error:
            raise DataError(f"{FILE_PREFIX}{split}: {error}; take the official file") from None
        if num_rows != len(origins):
            raise DataError(
                f"{FILE_PREFIX}{split}: {num_rows:,} in x, {len(origins):,} in meta; take files of"
                " one split"
            )
        for image_id, origin in zip(image_ids, origins, strict=True):
            origins_by_id.setdefault(image_id, origin)
    if not origins_by_id:
        raise DataError(f"--official {options.official}: no HDF5 file with its meta file in it")
    return origins_by_id


def _item(image_id: str, label: int, origin: Origin | None) -> Item:
    file = f"{IMAGE_FOLDER}/{image_id}.tif"
    if origin is None:
        return Item(file, label, image_id)
    slide = origin.slide
    return Item(file, label, slide, slide, origin.x, origin.y, site=site_of_slide(slide))


def _warnings(items: list[Item], options: SourceOptions) -> tuple[str, ...]:
    num_without_slide = sum(not item.slide for item in items)
    if not options.official:
        return (UNKNOWN_PATIENTS.format(advice=ADVICE),)
    if num_without_slide:
        return (
            f"{num_without_slide:,} patches are not in the official files; each counts as its own"
            " slide",
        )
    return ()
