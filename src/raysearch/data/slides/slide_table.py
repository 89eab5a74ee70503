"""Reads a CSV file with what is known about each slide: its label, patient, site and scanner."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from unicodedata import normalize

from raysearch.config.names import LABEL
from raysearch.data.class_names import clean_class_name, listed_names
from raysearch.data.csv_files import clean_name
from raysearch.data.files import Folder
from raysearch.data.slides.slide_names import slide_name
from raysearch.errors import DataError

SLIDE = "slide"
COLUMNS = (SLIDE, LABEL, "patient", "site", "scanner", "split")
HEADER = f"{SLIDE}[,{','.join(COLUMNS[1:])}]"
SPLITS = ("train", "valid", "test")
MAX_BYTES = 64 * 2**20


@dataclass(frozen=True)
class SlideRow:
    """What a table says about a slide; unknown values are empty."""

    label: str = ""
    patient: str = ""
    site: str = ""
    scanner: str = ""
    split: str = ""


@dataclass(frozen=True)
class SlideTable:
    """The rows of a table.

    Attributes:
        columns: Its columns.
        rows: The row of each slide that has one, by the slide's file.
        unmatched: The names of the slides in the table that are not among the files.
    """

    columns: tuple[str, ...]
    rows: dict[str, SlideRow]
    unmatched: tuple[str, ...] = ()


def read_slide_table(path: str, slides: Sequence[str]) -> SlideTable:
    """Read a CSV file with one row for each slide.

    The column `slide` has the path of the slide's file below its folder, or its name, with or
    without its suffix. The other columns may be missing, and values may be blank.

    Args:
        path: The CSV file.
        slides: The files of the slides, relative to their folder.

    Raises:
        DataError: If it is missing or no CSV file, has other columns, names a slide twice or could
            mean several, or no row of it is of a slide.
    """
    reader = csv.DictReader(io.StringIO(_text(path), newline=""), strict=True)
    files = _files_by_name(slides)
    rows: dict[str, SlideRow] = {}
    unmatched = []
    try:
        columns = tuple(clean_name(name) for name in reader.fieldnames or ())
        reader.fieldnames = list(columns)
        _check_columns(path, columns)
        for values in reader:
            line = reader.line_num
            if None in values or None in values.values():
                raise DataError(
                    f"{path}: line {line} has not as many fields as the first; correct it"
                )
            cells = {column: clean_name(value) for column, value in values.items()}
            name = cells.pop(SLIDE)
            named = files.get(name, [])
            if len(named) > 1:
                raise DataError(
                    f"{path}: line {line}: slide {name!r} could be {listed_names(named)}; give its"
                    " path"
                )
            if not named:
                unmatched.append(name)
                continue
            if named[0] in rows:
                raise DataError(f"{path}: line {line}: slide {name!r} for the second time")
            rows[named[0]] = _row(path, line, cells)
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num}: {error}; correct it") from None
    if not rows:
        raise DataError(
            f"{path}: none of its slides ({listed_names(unmatched)}) is among the files"
            f" ({listed_names(slides)}); give the names of the files in the column {SLIDE!r}"
        )
    return SlideTable(columns, rows, tuple(unmatched))


def _text(path: str) -> str:
    parent, _, name = path.rpartition("/")
    try:
        return (
            Folder(parent or ("/" if path.startswith("/") else "."))
            .read(name, MAX_BYTES)
            .decode("utf-8-sig")
        )
    except UnicodeDecodeError:
        raise DataError(f"{path}: not UTF-8; save it as UTF-8") from None
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; give a CSV file with {HEADER}") from None
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror or error}); check the file and its"
            " permissions"
        ) from None


def _check_columns(path: str, columns: Sequence[str]) -> None:
    errors = [] if SLIDE in columns else [f"no column {SLIDE!r}"]
    errors += [f"column {name!r} is unknown" for name in columns if name not in COLUMNS]
    errors += [f"column {name!r} twice" for name in sorted(set(columns)) if columns.count(name) > 1]
    if len(columns) == 1 and not errors:
        errors.append("no other column")
    if errors:
        raise DataError(f"{path}: {'; '.join(errors)}; its first line must be {HEADER}")


def _row(path: str, line: int, cells: dict[str, str]) -> SlideRow:
    split = cells.get("split", "").lower()
    if split and split not in SPLITS:
        raise DataError(f"{path}: line {line}: split {split!r} is none of {', '.join(SPLITS)}")
    try:
        label = clean_class_name(cells.get(LABEL, ""))
    except ValueError as error:
        raise DataError(f"{path}: line {line}: {error}; correct it") from None
    return SlideRow(
        label, cells.get("patient", ""), cells.get("site", ""), cells.get("scanner", ""), split
    )


def _files_by_name(slides: Sequence[str]) -> dict[str, list[str]]:
    """Return the files that a name could mean: the path, or the name, with or without suffix."""
    files: dict[str, list[str]] = defaultdict(list)
    for slide in slides:
        path = PurePosixPath(normalize("NFC", slide))
        for name in {str(path), slide_name(str(path)), path.name, slide_name(path.name)}:
            files[name].append(slide)
    # A whole path means this file, also if another one in a subfolder has this name.
    for slide in slides:
        files[normalize("NFC", slide)] = [slide]
    return files
