"""PatchCamelyon (Veeling et al. 2018) as published: HDF5 files, and tables of their slides."""

from __future__ import annotations

import csv
import gzip
import io
import re
import shutil
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from raysearch.data.files import Folder
from raysearch.data.isolated_subprocess import IsolatedProcessError, run_isolated
from raysearch.data.shards.decoding import RejectedImageError
from raysearch.data.shards.hdf5 import image_rows, label_rows
from raysearch.data.sources.file_paths import existing
from raysearch.data.sources.listing import ALONE, Ask, Item, Listing, Rejected
from raysearch.errors import DataError

PARTS = ("train", "valid", "test")
STEM = "camelyonpatch_level_2_split_"
SLIDE = re.compile(r"camelyon16_(train|test)_(?:(normal|tumor)_)?(\d{3})")
META = ("coord_y", "coord_x", "tumor_patch", "center_tumor_patch", "wsi")
CLASSES = ("negative", "positive")
SIZE = (96, 96)
# The slides of Radboud by their numbers in the training set; the others are of Utrecht.
RADBOUD = {"normal": 100, "tumor": 70}
NO_META = "put the official ..._meta.csv files beside the HDF5 files"
SWAPPED = (
    "valid and test are told apart by the files' names alone; the published checksums have the two"
    " swapped"
)
TRUTH = {"True": 1, "False": 0, "1": 1, "0": 0}
LIMIT_S, MEMORY_BYTES = 120.0, 4 * 2**30


@dataclass(frozen=True)
class Origin:
    """Where a row is from: its place on the slide in pixels of level 0, its label, the slide."""

    x: int
    y: int
    label: int
    slide: str


def pcam(source: str, ask: Ask) -> Listing:
    """`camelyonpatch_level_2_split_{train,valid,test}_{x,y}.h5[.gz]` and `..._meta.csv`.

    The slide counts as the patient. Its name, and not the file's, says whether a row is of the
    test set. DataError where rows and tables do not fit each other.
    """
    folder = existing(source)
    if not folder.is_local:
        raise DataError(f"{source}: HDF5 files are read from a disk; copy them to one first")
    items: list[Item] = []
    rejected: list[Rejected] = []
    known = True
    for part in parts_of(folder):
        origins = origins_of(folder, part)
        known = known and origins is not None
        try:
            file, rows = images_of(folder, part, ask.scratch)
            labels = _labels_of(folder, part, ask.scratch)
        except (RejectedImageError, IsolatedProcessError) as error:
            rejected.append(Rejected(f"{STEM}{part}", str(error)))
            continue
        reject_misfits(part, rows, labels, origins)
        items += (
            _item(f"{file}#{row}", part, int(labels[row]), origins[row] if origins else None)
            for row in range(rows)
        )
    warnings = () if known else (ALONE.format(advice=NO_META), SWAPPED)
    return Listing(CLASSES, items, rejected, SIZE, warnings, Folder(ask.scratch), rows=True)


def is_pcam(source: str) -> bool:
    """Whether one of the files is there."""
    return bool(parts_of(Folder(source)))


def parts_of(folder: Folder) -> list[str]:
    """The parts whose images are in `folder`."""
    names = set(folder.names())
    return [part for part in PARTS if {f"{STEM}{part}_x.h5", f"{STEM}{part}_x.h5.gz"} & names]


def images_of(folder: Folder, part: str, scratch: Path) -> tuple[str, int]:
    """The name in `scratch` of the file with the images of `part`, and how many they are."""
    path = _unpacked(folder, f"{STEM}{part}_x.h5", scratch)
    rows, _size = run_isolated(image_rows, str(path), limit_s=LIMIT_S, memory_bytes=MEMORY_BYTES)
    return path.name, rows


def _labels_of(folder: Folder, part: str, scratch: Path) -> NDArray[np.int64]:
    path = _unpacked(folder, f"{STEM}{part}_y.h5", scratch)
    return run_isolated(label_rows, str(path), limit_s=LIMIT_S, memory_bytes=MEMORY_BYTES)


def _unpacked(folder: Folder, name: str, scratch: Path) -> Path:
    """The file `name` of `folder` in `scratch`, unpacked where it is gzipped, else a link."""
    target = scratch / name
    if target.exists():
        return target
    scratch.mkdir(parents=True, exist_ok=True)
    if folder.exists(name):
        target.symlink_to(Path(folder.path(name)).resolve())
    elif folder.exists(f"{name}.gz"):
        try:
            with gzip.open(folder.path(f"{name}.gz")) as packed, target.open("wb") as out:
                shutil.copyfileobj(packed, out, 2**22)
        except (gzip.BadGzipFile, EOFError, zlib.error):
            raise RejectedImageError(f"{name}.gz is truncated or damaged") from None
    else:
        raise RejectedImageError(f"no {name} or {name}.gz")
    return target


def origins_of(folder: Folder, part: str) -> list[Origin] | None:
    """What the meta file of `part` says of each row; None without one. DataError for a bad one."""
    name = f"{STEM}{part}_meta.csv"
    if not folder.exists(name):
        return None
    text = folder.read(name).decode("utf-8", "replace")
    reader = csv.DictReader(io.StringIO(text, newline=""))
    origins = []
    try:
        if not set(META) <= set(reader.fieldnames or ()):
            raise DataError(f"{folder.path(name)}: its first line is not {','.join(META)}")
        for row in reader:
            origin = Origin(
                int(row["coord_x"]),
                int(row["coord_y"]),
                TRUTH[row["center_tumor_patch"]],
                row["wsi"],
            )
            if not SLIDE.fullmatch(origin.slide) or max(abs(origin.x), abs(origin.y)) >= 2**31:
                raise ValueError(origin.slide)
            origins.append(origin)
    except (KeyError, ValueError, TypeError, csv.Error):
        raise DataError(
            f"{folder.path(name)}: line {reader.line_num} is not {','.join(META)} of a Camelyon16"
            " slide; take the official file"
        ) from None
    return origins


def reject_misfits(
    part: str, rows: int, labels: NDArray[np.int64], origins: list[Origin] | None
) -> None:
    """DataError where images, labels and meta file are not of one another."""
    counts = {"x": rows, "y": len(labels)} | ({"meta": len(origins)} if origins else {})
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{count:,} in {name}" for name, count in counts.items())
        raise DataError(
            f"{STEM}{part}: {told}; take files of one part (valid and test are easily swapped)"
        )
    for row, origin in enumerate(origins or ()):
        if origin.label != labels[row]:
            raise DataError(
                f"{STEM}{part}: row {row} is {labels[row]} in y, {origin.label} in meta; take"
                " files of one part (valid and test are easily swapped)"
            )


def site_of(slide: str) -> str:
    """RUMC or UMCU; empty for slides of the test set, whose names do not say it."""
    match = SLIDE.fullmatch(slide)
    if match is None or match[2] is None:
        return ""
    return "RUMC" if int(match[3]) <= RADBOUD[match[2]] else "UMCU"


def part_of(slide: str, part: str) -> str:
    """The part that a row of `slide` is of, which stands in the file of `part`."""
    if slide.startswith("camelyon16_test_"):
        return "test"
    return "train" if part == "train" else "valid"


def _item(file: str, part: str, label: int, origin: Origin | None) -> Item:
    if origin is None:
        return Item(file, label, file, split=part)
    slide = origin.slide
    return Item(
        file,
        label,
        slide,
        slide,
        origin.x,
        origin.y,
        site=site_of(slide),
        split=part_of(slide, part),
    )
