"""A CSV file that names images, their labels and where each is from."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from posixpath import normpath

from raysearch.config.names import NAME
from raysearch.data.files import Folder
from raysearch.data.shards.shard_manifest import LABEL
from raysearch.data.sources.file_paths import LINK_OUT, links_inside
from raysearch.data.sources.listing import Ask, Item, Listing, Rejected, Task
from raysearch.errors import DataError

NEEDED = ("path", "label", "patient")
KNOWN = (*NEEDED, "slide", "site", "x", "y", "magnification", "split")
TASK = "label_"
PARTS = {
    "train": "train",
    "valid": "valid",
    "val": "valid",
    "validation": "valid",
    "test": "test",
}
COLUMNS = f"{','.join(NEEDED)}[,slide,site,x,y,magnification,split][,{TASK}TASK ...]"


def csv_source(source: str, ask: Ask) -> Listing:
    """A row an image: `path` is below the folder of the CSV file, an empty label is an unknown one.

    Every column `label_<task>` is a further task. DataError for a file whose columns cannot be
    used; a row that cannot is rejected by its path.
    """
    place, _, name = source.rpartition("/")
    folder = Folder(place or ".")
    reader = _reader(folder, name, source)
    try:
        columns = tuple(reader.fieldnames or ())
    except csv.Error as error:
        raise DataError(f"{source}: line 1: {error}; mend it") from None
    _reject_columns(source, columns)
    rows = _rows(reader, source)
    tasks = tuple(column.removeprefix(TASK) for column in columns if column.startswith(TASK))
    classes = ask.classes or _values(rows, "label")
    lists = {
        "label": classes,
        **{f"{TASK}{task}": _values(rows, f"{TASK}{task}") for task in tasks},
    }
    lines = _lines(rows)
    found = [_item(row, lists, lines[row.values["path"]]) for row in rows]
    inside = links_inside(folder)
    found = [
        Rejected(one.file, LINK_OUT) if isinstance(one, Item) and not inside(one.file) else one
        for one in found
    ]
    return Listing(
        classes,
        [one for one in found if isinstance(one, Item)],
        [one for one in found if isinstance(one, Rejected)],
        folder=folder,
        tasks=tuple(Task(task, lists[f"{TASK}{task}"]) for task in tasks),
    )


def is_csv(source: str) -> bool:
    """Whether `source` is named so."""
    return source.lower().endswith(".csv")


@dataclass(frozen=True)
class _Row:
    line: int
    values: Mapping[str, str]


def _reader(folder: Folder, name: str, source: str) -> csv.DictReader[str]:
    try:
        text = folder.read(name).decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{source}: no such file; give a CSV file with {COLUMNS}") from None
    except UnicodeDecodeError:
        raise DataError(f"{source}: not UTF-8; save it so") from None
    return csv.DictReader(io.StringIO(text, newline=""), strict=True)


def _reject_columns(source: str, columns: tuple[str, ...]) -> None:
    errors = [f"no column {name!r}" for name in NEEDED if name not in columns]
    errors += [
        f"column {name!r} is unknown"
        for name in columns
        if name not in KNOWN and not _is_task(name)
    ]
    errors += [f"column {name!r} twice" for name in sorted(set(columns)) if columns.count(name) > 1]
    if errors:
        raise DataError(f"{source}: {'; '.join(errors)}; its first line is {COLUMNS}")


def _is_task(column: str) -> bool:
    name = column.removeprefix(TASK)
    return column.startswith(TASK) and name != LABEL and NAME.fullmatch(name) is not None


def _rows(reader: csv.DictReader[str], source: str) -> list[_Row]:
    rows = []
    try:
        for values in reader:
            if None in values or None in values.values():
                raise DataError(
                    f"{source}: line {reader.line_num} has not as many fields as the first; mend it"
                )
            rows.append(_Row(reader.line_num, values))
    except csv.Error as error:
        raise DataError(f"{source}: line {reader.line_num}: {error}; mend it") from None
    return rows


def _values(rows: list[_Row], column: str) -> tuple[str, ...]:
    return tuple(sorted({row.values[column] for row in rows} - {""}))


def _lines(rows: list[_Row]) -> dict[str, list[int]]:
    lines = defaultdict(list)
    for row in rows:
        lines[row.values["path"]].append(row.line)
    return lines


def _item(row: _Row, lists: Mapping[str, tuple[str, ...]], lines: list[int]) -> Item | Rejected:
    values = row.values
    path = values["path"]
    reason = _error(values, lists, lines)
    if reason:
        return Rejected(path or f"line {row.line}", reason)
    label, *others = (
        names.index(values[column]) if values[column] else None for column, names in lists.items()
    )
    return Item(
        path,
        label,
        values["patient"],
        values.get("slide", ""),
        _number(values.get("x")),
        _number(values.get("y")),
        values.get("site", ""),
        _number(values.get("magnification")),
        PARTS.get(values.get("split", ""), ""),
        tuple(others),
    )


def _error(
    values: Mapping[str, str], lists: Mapping[str, tuple[str, ...]], lines: list[int]
) -> str:
    path = values["path"]
    climbs = path.startswith("/") or path.split("/")[0] == ".."
    if not path or climbs or "://" in path or "\0" in path or normpath(path) != path:
        return "its path is not a plain one below the folder of the CSV file"
    if len(lines) > 1:
        return f"named in lines {', '.join(map(str, lines))}"
    if not values["patient"]:
        return "no patient"
    for column in ("x", "y", "magnification"):
        text = values.get(column, "")
        if text and not (text.isascii() and text.isdigit() and len(text) < 10):
            return f"{column} {text!r} is not a whole number"
    for column, names in {**lists, "split": tuple(PARTS)}.items():
        if values.get(column) and values[column] not in names:
            return f"{column} {values[column]!r} is none of {', '.join(names)}"
    return ""


def _number(text: str | None) -> int | None:
    return int(text) if text else None
