"""Lists the slides of a CSV file, each of which has a file with the features of its patches.

The files are those of TRIDENT and CLAM: one HDF5 file or file of torch for each slide. The columns
may have the names of CLAM: `slide_id`, `case_id`, `label`.
"""

from __future__ import annotations

import csv
import io
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from raysearch.data.files import Folder
from raysearch.data.sources.csv_table import list_rows, read_text
from raysearch.data.sources.file_paths import require_folder
from raysearch.data.sources.listing import Listing, SourceOptions
from raysearch.errors import DataError

FEATURES_FORMAT = "features"
HDF5_SUFFIXES, TORCH_SUFFIXES = (".h5", ".hdf5"), (".pt", ".pth")
SUFFIXES = (*HDF5_SUFFIXES, *TORCH_SUFFIXES)
SYNONYMS = {"slide_id": "slide", "case_id": "patient", "patient_id": "patient"}
HEADER = "slide,label,patient[,path,site,split][,label_TASK ...]"


def list_features(source: str, options: SourceOptions) -> Listing:
    """List a CSV file with one row for each slide, and the files of their features.

    A row without a `path` has the file NAME.h5 or NAME.pt of its slide, in the root: the folder of
    the CSV file, unless the options name another. A slide without a name has that of its file.

    Raises:
        DataError: If the columns are wrong, a slide has no file or several, a row is wrong, or a
            slide is listed twice.
    """
    directory, _, name = source.rpartition("/")
    csv_folder = Folder(directory or ".")
    folder = csv_folder if options.root is None else require_folder(options.root)
    require_local(folder)
    text = _with_paths(source, read_text(csv_folder, name, source), folder)
    listing = list_rows(source, text, folder, options.classes)
    if listing.rejected:  # a slide that is left out silently would change the study
        first = listing.rejected[0]
        raise DataError(f"{source}: {first.file}: {first.reason}; correct it, or remove the row")
    items = [
        item._replace(slide=item.slide or PurePosixPath(item.file).stem) for item in listing.items
    ]
    slide, count = Counter(item.slide for item in items).most_common(1)[0] if items else ("", 0)
    if count > 1:
        raise DataError(f"{source}: {count} rows have the slide {slide!r}; give each another name")
    return replace(listing, items=items)


def require_local(folder: Folder) -> Folder:
    """Return the folder of the files of slides; DataError if it is not on this machine."""
    if not folder.is_local:
        raise DataError(
            f"{folder.address}: the features of slides are read from local files; copy them here,"
            " or shard them where they are"
        )
    return folder


def _with_paths(source: str, text: str, folder: Folder) -> str:
    """Return the CSV text with this product's names of columns, and with a column `path`."""
    try:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        rows = [row if any(map(str.strip, row)) else [] for row in reader]
    except csv.Error as error:
        raise DataError(f"{source}: {error}; correct it") from None
    while rows and not rows[0]:
        del rows[0]
    header = [_column(name) for name in rows[0]] if rows else []
    for name in {*header}:
        columns = [column.strip() for column in rows[0] if name == _column(column)]
        if len(columns) > 1:
            raise DataError(
                f"{source}: columns {' and '.join(columns)} are both `{name}`; keep one"
            )
    if "path" not in header:
        if "slide" not in header:
            raise DataError(
                f"{source}: no column 'slide' or 'path'; its first line must be {HEADER}"
            )
        column = header.index("slide")
        slides = [row[column].strip() if column < len(row) else "" for row in rows[1:] if row]
        paths = iter(_files_of(source, slides, folder))
        rows = [rows[0], *([*row, next(paths)] if row else [] for row in rows[1:])]
        header = [*header, "path"]
    converted = io.StringIO(newline="")
    csv.writer(converted).writerows([header, *rows[1:]])
    return converted.getvalue()


def _column(name: str) -> str:
    """Return this product's name of a column."""
    return SYNONYMS.get(name.strip(), name.strip())


def _files_of(source: str, slides: Sequence[str], folder: Folder) -> list[str]:
    """Return the file of each slide; DataError if there is none, or several."""
    files: dict[str, list[str]] = defaultdict(list)
    for name in folder.names():
        path = PurePosixPath(name)
        if path.suffix.lower() in SUFFIXES:
            files[path.stem].append(name)
    paths = []
    for number, slide in enumerate(slides, 1):
        if not slide:
            raise DataError(f"{source}: row {number} names no slide; fill its column `slide`")
        stem = slide.removesuffix(".svs")
        named = files.get(slide) or files.get(stem, [])
        if len(named) != 1:
            reason = f"the files {', '.join(sorted(named))}" if named else "no file"
            raise DataError(
                f"{source}: the slide {slide!r} has {reason} in {folder.address}; each slide needs"
                f" one file, such as {stem}.h5 or {stem}.pt (see --root)"
            )
        paths.append(named[0])
    return paths
