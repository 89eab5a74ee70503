"""Lists a CSV file with the path, the labels, the patient and the position of each image."""

from __future__ import annotations

import csv
import io
import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from posixpath import normpath

from raysearch.config.names import LABEL, NAME
from raysearch.data.csv_files import clean_name
from raysearch.data.files import Folder
from raysearch.data.sources.file_paths import LINK_OUT, inside_check, require_folder
from raysearch.data.sources.listing import Item, Listing, Rejected, SourceOptions, Task, divide
from raysearch.errors import DataError

REQUIRED_COLUMNS = ("path", "label", "patient")
COLUMNS = (*REQUIRED_COLUMNS, "slide", "site", "x", "y", "magnification", "split")
# Columns of `labels.csv` of a harvest, for whoever labels the tiles; shards do not have them.
IGNORED_COLUMNS = ("page", "figure", "size", "sha256")
# The prefix of the column of an additional task.
TASK_PREFIX = "label_"
BLANK_PATIENTS = (
    "{count:,} images have no patient: each counts as its own patient, so patches of one patient"
    " may be on both sides of a split, which makes scores too optimistic; fill the column `patient`"
)
OUTSIDE = "its path is absolute, and not in the root; name the folder of the images with --root"
# The values of the column `split`, in lower case.
SPLITS = {
    "train": "train",
    "valid": "valid",
    "val": "valid",
    "validation": "valid",
    "test": "test",
}
HEADER = (
    f"{','.join(REQUIRED_COLUMNS)}[,slide,site,x,y,magnification,split][,{TASK_PREFIX}TASK ...]"
)


def list_csv(source: str, options: SourceOptions) -> Listing:
    """List a CSV file with one row for each image.

    `path` is relative to the root, which is the folder of the CSV file unless the options name
    another. An absolute path must lie in the root, and becomes relative to it. An empty label is
    unknown. A column `label_<task>` is an additional task. Blanks at the ends of values do not
    count, and texts are converted to Unicode's composed form. An image without a patient is its own
    patient.

    Raises:
        DataError: If the columns are wrong; a single wrong row is rejected by its path.
    """
    directory, _, name = source.rpartition("/")
    csv_folder = Folder(directory or ".")
    folder = csv_folder if options.root is None else require_folder(options.root)
    return list_rows(source, read_text(csv_folder, name, source), folder, options.classes)


def list_rows(source: str, text: str, folder: Folder, classes: tuple[str, ...] = ()) -> Listing:
    """List the rows of a CSV text, as `list_csv` does.

    Args:
        source: Where the text comes from, for error messages.
        text: The text.
        folder: The folder to which `path` is relative.
        classes: The classes in order; empty for those of the labels.
    """
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
        columns = tuple(reader.fieldnames)
    except csv.Error as error:
        raise DataError(f"{source}: line 1: {error}; correct it") from None
    _reject_columns(source, columns)
    rows = _read_rows(reader, source, _roots(folder))
    task_columns = [column for column in columns if column.startswith(TASK_PREFIX)]
    class_names = tuple(map(clean_name, classes)) or _unique_values(rows, LABEL)
    classes_by_column = {
        LABEL: class_names,
        **{column: _unique_values(rows, column) for column in task_columns},
    }
    lines = _lines_by_path(rows)
    patients = {row.values["patient"] for row in rows}
    is_inside = inside_check(folder)
    entries: list[Item | Rejected] = []
    for row in rows:
        entry = _parse_row(row, classes_by_column, lines[row.values["path"]])
        if isinstance(entry, Item) and not row.values["patient"] and entry.file in patients:
            entry = Rejected(entry.file, "no patient, and its path is the name of a patient")
        if isinstance(entry, Item) and not is_inside(entry.file):
            entry = Rejected(entry.file, LINK_OUT)
        entries.append(entry)
    items, rejected = divide(entries)
    tasks = tuple(
        Task(column.removeprefix(TASK_PREFIX), classes_by_column[column]) for column in task_columns
    )
    num_blank = sum(item.patient == item.file for item in items)
    warnings = (BLANK_PATIENTS.format(count=num_blank),) if num_blank else ()
    return Listing(class_names, items, rejected, warnings=warnings, folder=folder, tasks=tasks)


def is_csv(source: str) -> bool:
    """Whether `source` has the suffix .csv."""
    return source.lower().endswith(".csv")


@dataclass(frozen=True)
class _Row:
    line: int
    values: Mapping[str, str]


def read_text(folder: Folder, name: str, source: str) -> str:
    """Read a CSV file; DataError if it is missing, or not UTF-8."""
    try:
        return folder.read(name).decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{source}: no such file; give a CSV file with {HEADER}") from None
    except PermissionError as error:
        raise DataError(
            f"{source}: cannot be read ({error.strerror}); change its permissions"
        ) from None
    except UnicodeDecodeError:
        raise DataError(f"{source}: not UTF-8; save it as UTF-8") from None


def _reject_columns(source: str, columns: tuple[str, ...]) -> None:
    errors = [f"no column {name!r}" for name in REQUIRED_COLUMNS if name not in columns]
    errors += [
        f"column {name!r} is unknown"
        for name in columns
        if name not in (*COLUMNS, *IGNORED_COLUMNS) and not _is_task_column(name)
    ]
    errors += [f"column {name!r} twice" for name in sorted(set(columns)) if columns.count(name) > 1]
    if errors:
        raise DataError(f"{source}: {'; '.join(errors)}; its first line must be {HEADER}")


def _is_task_column(column: str) -> bool:
    task = column.removeprefix(TASK_PREFIX)
    return column.startswith(TASK_PREFIX) and task != LABEL and NAME.fullmatch(task) is not None


def _roots(folder: Folder) -> tuple[str, ...]:
    """The beginnings of absolute paths in `folder`: as it is named, and without symbolic links."""
    if not folder.is_local:
        return (f"{folder.address}/",)
    names = (os.path.abspath(folder.path()), os.path.realpath(folder.path()))  # noqa: PTH100
    return tuple(f"{name.rstrip('/')}/" for name in names)


def _relative_path(path: str, roots: tuple[str, ...]) -> str:
    """Return `path` relative to the root in which it lies, or as it is."""
    root = next((root for root in roots if path.startswith(root)), "")
    return path[len(root) :]


def _read_rows(reader: csv.DictReader[str], source: str, roots: tuple[str, ...]) -> list[_Row]:
    rows = []
    try:
        for values in reader:
            if None in values or None in values.values():
                raise DataError(
                    f"{source}: line {reader.line_num} has not as many fields as the first; correct"
                    " it"
                )
            rows.append(_Row(reader.line_num, _clean_values(values, roots)))
    except csv.Error as error:
        raise DataError(f"{source}: line {reader.line_num}: {error}; correct it") from None
    return rows


def _clean_values(values: Mapping[str, str], roots: tuple[str, ...]) -> dict[str, str]:
    """The values of a row without blanks at their ends; a path keeps them, as a file's name."""
    cleaned = {column: clean_name(value) for column, value in values.items()}
    if "split" in cleaned:
        cleaned["split"] = cleaned["split"].lower()
    return cleaned | {"path": _relative_path(values["path"], roots)}


def _unique_values(rows: list[_Row], column: str) -> tuple[str, ...]:
    return tuple(sorted({row.values[column] for row in rows} - {""}))


def _lines_by_path(rows: list[_Row]) -> dict[str, list[int]]:
    lines = defaultdict(list)
    for row in rows:
        lines[row.values["path"]].append(row.line)
    return lines


def _parse_row(
    row: _Row, classes_by_column: Mapping[str, tuple[str, ...]], lines: list[int]
) -> Item | Rejected:
    """Convert a row to an item; `lines` are all lines with its path."""
    values = row.values
    path = values["path"]
    error = _row_error(values, classes_by_column, lines)
    if error:
        return Rejected(path or f"line {row.line}", error)
    label, *task_labels = (
        class_names.index(values[column]) if values[column] else None
        for column, class_names in classes_by_column.items()
    )
    return Item(
        path,
        label,
        values["patient"] or path,
        values.get("slide", ""),
        _integer(values.get("x")),
        _integer(values.get("y")),
        values.get("site", ""),
        _integer(values.get("magnification")),
        SPLITS.get(values.get("split", ""), ""),
        tuple(task_labels),
    )


def _row_error(
    values: Mapping[str, str],
    classes_by_column: Mapping[str, tuple[str, ...]],
    lines: list[int],
) -> str:
    """Why a row cannot be used; empty if it can."""
    path = values["path"]
    if path.startswith("/") or "://" in path:
        return OUTSIDE
    leads_out = path.split("/")[0] == ".."
    if not path or leads_out or "\0" in path or normpath(path) != path:
        return "its path is not a plain path in the root, without . and .. and empty parts"
    if len(lines) > 1:
        return f"named in lines {', '.join(map(str, lines))}"
    for column in ("x", "y", "magnification"):
        text = values.get(column, "")
        if text and not (text.isascii() and text.isdigit() and len(text) < 10):
            return f"{column} {text!r} is not a whole number"
    for column, allowed in {**classes_by_column, "split": tuple(SPLITS)}.items():
        if values.get(column) and values[column] not in allowed:
            return f"{column} {values[column]!r} is none of {', '.join(allowed)}"
    return ""


def _integer(text: str | None) -> int | None:
    return int(text) if text else None
