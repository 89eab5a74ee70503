"""Lists PatchCamelyon (Veeling et al., 2018) as published: HDF5 files and tables of slides."""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from raysearch.data.files import Folder
from raysearch.data.images import expansion
from raysearch.data.images.decoding import RejectedImageError
from raysearch.data.images.hdf5 import count_images, flatten_images, read_labels
from raysearch.data.isolated_subprocess import IsolatedProcessError, run_isolated
from raysearch.data.sources.file_paths import require_folder
from raysearch.data.sources.listing import (
    UNKNOWN_PATIENTS,
    Item,
    Listing,
    Rejected,
    SourceOptions,
)
from raysearch.errors import DataError

SPLITS = ("train", "valid", "test")
FILE_PREFIX = "camelyonpatch_level_2_split_"
SLIDE_NAME = re.compile(r"camelyon16_(train|test)_(?:(normal|tumor)_)?(\d{3})")
META_COLUMNS = ("coord_y", "coord_x", "tumor_patch", "center_tumor_patch", "wsi")
CLASSES = ("negative", "positive")
SIZE = (96, 96)
# A label says whether the square of this side in the center has a pixel of a tumor.
CENTER = 32
# Of the training slides, those up to these numbers are from Radboud, the others from Utrecht.
LAST_RADBOUD_NUMBER = {"normal": 100, "tumor": 70}
NO_META = "put the official ..._meta.csv files next to the HDF5 files"
SWAPPED = (
    "only the file names distinguish valid from test; the published checksums have the two swapped"
)
LABELS = {"True": 1, "False": 0, "1": 1, "0": 0}
TIMEOUT_S, MEMORY_BYTES = 120.0, 4 * 2**30
# The slowest disk and decompression that copying images may have.
MIN_BYTES_PER_S = 10 * 2**20
READ_BYTES = 2**22


@dataclass(frozen=True)
class Origin:
    """The origin of a row: its position in pixels of level 0, its label and its slide."""

    x: int
    y: int
    label: int
    slide: str


def list_pcam(source: str, options: SourceOptions) -> Listing:
    """List `camelyonpatch_level_2_split_{train,valid,test}_{x,y}.h5[.gz]` and `..._meta.csv`.

    The slide counts as the patient. Its name, not the file's, decides whether a row is in the test
    set.

    Raises:
        DataError: If the images, labels and meta file of a split do not match.
    """
    folder = require_folder(source)
    if not folder.is_local:
        raise DataError(f"{source}: HDF5 files must be on a local disk; copy them to one first")
    items: list[Item] = []
    rejected: list[Rejected] = []
    have_origins = True
    for split in available_splits(folder):
        origins = read_origins(folder, split)
        have_origins = have_origins and origins is not None
        try:
            file, num_rows = open_images(folder, split, options.scratch)
            labels = _read_labels(folder, split, options.scratch)
        except (RejectedImageError, IsolatedProcessError) as error:
            rejected.append(Rejected(f"{FILE_PREFIX}{split}", str(error)))
            continue
        _check_consistency(split, num_rows, labels, origins)
        items += (
            _item(f"{file}#{row}", split, int(labels[row]), origins[row] if origins else None)
            for row in range(num_rows)
        )
    warnings = () if have_origins else (UNKNOWN_PATIENTS.format(advice=NO_META), SWAPPED)
    scratch = Folder(options.scratch)
    return Listing(CLASSES, items, rejected, SIZE, warnings, scratch, is_hdf5=True, center=CENTER)


def is_pcam(source: str) -> bool:
    """Whether the folder contains one of the files with images."""
    return bool(available_splits(Folder(source)))


def available_splits(folder: Folder) -> list[str]:
    """The official splits whose images are in `folder`."""
    names = set(folder.names())
    return [
        split
        for split in SPLITS
        if {f"{FILE_PREFIX}{split}_x.h5", f"{FILE_PREFIX}{split}_x.h5.gz"} & names
    ]


def open_images(folder: Folder, split: str, scratch: Path) -> tuple[str, int]:
    """Unpack the images of `split` to `scratch`; return the file's name and number of images.

    Raises:
        RejectedImageError: If the file is damaged, or unpacks to too many bytes.
        IsolatedProcessError: If reading it takes too much time or memory.
        OSError: If `scratch` has too little space.
    """
    path = _unpack(folder, f"{FILE_PREFIX}{split}_x.h5", scratch)
    num_rows, size = run_isolated(
        count_images, str(path), timeout_s=TIMEOUT_S, memory_bytes=MEMORY_BYTES
    )
    num_bytes = num_rows * size[0] * size[1] * 3
    timeout_s = TIMEOUT_S + num_bytes / MIN_BYTES_PER_S
    run_isolated(flatten_images, str(path), timeout_s=timeout_s, memory_bytes=MEMORY_BYTES)
    return path.name, num_rows


def _read_labels(folder: Folder, split: str, scratch: Path) -> NDArray[np.int64]:
    path = _unpack(folder, f"{FILE_PREFIX}{split}_y.h5", scratch)
    return run_isolated(read_labels, str(path), timeout_s=TIMEOUT_S, memory_bytes=MEMORY_BYTES)


def _unpack(folder: Folder, name: str, scratch: Path) -> Path:
    """Put the file `name` of `folder` into `scratch`: decompressed if gzipped, else as a link."""
    target = scratch / name
    if target.exists():
        return target
    scratch.mkdir(parents=True, exist_ok=True)
    if folder.exists(name):
        target.symlink_to(Path(folder.path(name)).resolve())
    elif folder.exists(f"{name}.gz"):
        try:
            _decompress(Path(folder.path(f"{name}.gz")), target)
        except (gzip.BadGzipFile, EOFError, zlib.error):
            raise RejectedImageError(f"{name}.gz is truncated or damaged") from None
    else:
        raise RejectedImageError(f"no {name} or {name}.gz")
    return target


def _decompress(compressed: Path, target: Path) -> None:
    """Decompress a gzip file to `target`; after an error, `target` does not exist.

    Raises:
        RejectedImageError: If it has more bytes than images compress to.
    """
    remaining_bytes = expansion.COMPRESSED_HDF5.max_bytes(compressed)
    try:
        with gzip.open(compressed) as file, target.open("wb") as out:
            while block := file.read(READ_BYTES):
                remaining_bytes -= len(block)
                if remaining_bytes < 0:
                    raise RejectedImageError(
                        f"{compressed.name} unpacks to more than"
                        f" {expansion.COMPRESSED_HDF5.factor} times its size;"
                        " unpack it yourself if you trust it"
                    )
                out.write(block)
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def read_origins(folder: Folder, split: str) -> list[Origin] | None:
    """Read the origin of each row of `split` from its meta file.

    Returns:
        The origins, or None if there is no meta file.

    Raises:
        DataError: If the meta file is malformed.
    """
    name = f"{FILE_PREFIX}{split}_meta.csv"
    if not folder.exists(name):
        return None
    text = folder.read(name).decode("utf-8-sig", "replace")
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        if not set(META_COLUMNS) <= set(reader.fieldnames or ()):
            raise DataError(f"{folder.path(name)}: its first line is not {','.join(META_COLUMNS)}")
        return [_parse_origin(row) for row in reader]
    except (KeyError, ValueError, TypeError, csv.Error):
        raise DataError(
            f"{folder.path(name)}: line {reader.line_num} is not {','.join(META_COLUMNS)} of a"
            " Camelyon16 slide; take the official file"
        ) from None


def _parse_origin(row: dict[str, str]) -> Origin:
    x, y, label = int(row["coord_x"]), int(row["coord_y"]), LABELS[row["center_tumor_patch"]]
    if not SLIDE_NAME.fullmatch(row["wsi"]) or max(abs(x), abs(y)) >= 2**31:
        raise ValueError(row["wsi"])
    return Origin(x, y, label, row["wsi"])


def _check_consistency(
    split: str, num_rows: int, labels: NDArray[np.int64], origins: list[Origin] | None
) -> None:
    """Raise DataError if the images, labels and meta file of a split do not match."""
    counts = {"x": num_rows, "y": len(labels)} | ({"meta": len(origins)} if origins else {})
    if len(set(counts.values())) > 1:
        text = ", ".join(f"{count:,} in {name}" for name, count in counts.items())
        raise DataError(
            f"{FILE_PREFIX}{split}: {text}; take files of one split (valid and test are easily"
            " swapped)"
        )
    for row, origin in enumerate(origins or ()):
        if origin.label != labels[row]:
            raise DataError(
                f"{FILE_PREFIX}{split}: row {row} is {labels[row]} in y, {origin.label} in meta;"
                " take files of one split (valid and test are easily swapped)"
            )


def site_of_slide(slide: str) -> str:
    """The site of a training slide, RUMC or UMCU; empty for test slides, whose site is unknown."""
    match = SLIDE_NAME.fullmatch(slide)
    if match is None or match[2] is None:
        return ""
    return "RUMC" if int(match[3]) <= LAST_RADBOUD_NUMBER[match[2]] else "UMCU"


def split_of_slide(slide: str, file_split: str) -> str:
    """The official split of a row of `slide` that is in the file of `file_split`."""
    if slide.startswith("camelyon16_test_"):
        return "test"
    return "train" if file_split == "train" else "valid"


def _item(file: str, split: str, label: int, origin: Origin | None) -> Item:
    if origin is None:
        return Item(file, label, file, split=split)
    slide = origin.slide
    return Item(
        file,
        label,
        slide,
        slide,
        origin.x,
        origin.y,
        site=site_of_slide(slide),
        split=split_of_slide(slide, split),
    )
