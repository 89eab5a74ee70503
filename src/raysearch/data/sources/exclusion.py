"""Leaves listed patches out of a source: the list of a user, or of `raysearch inspect`."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from raysearch.data.csv_files import TextTable, read_csv
from raysearch.data.files import open_regular
from raysearch.data.pseudonyms import PseudonymKey
from raysearch.data.sources.listing import Exclusion, Item, Listing, Rejected
from raysearch.errors import DataError, first_line

CSV_SUFFIX = ".csv"
# The columns that may have the names, in the lists that raysearch itself writes.
NAME_COLUMNS = ("file", "path", "source")
REASON_COLUMN = "reason"
DEFAULT_REASON = "listed"
PREFIX = "excluded: "
# Names on each side, in sorted order, among which the nearest name is searched.
NUM_NEIGHBORS = 500


def read_exclusion(path: Path, key: PseudonymKey | None = None) -> Exclusion:
    """Read a list of patches to leave out.

    A file `*.csv` has the names in a column `file`, `path` or `source`, and may have a column
    `reason`; without a row, nothing is left out. Any other file has one name in each line. Empty
    names and repetitions are ignored.

    Args:
        path: The list.
        key: The key of the pseudonyms that the list may have instead of names.

    Raises:
        DataError: If the list cannot be read, has no such column, or is a text without a name.
    """
    is_table = path.suffix.lower() == CSV_SUFFIX
    if is_table:
        entries = _table_entries(path, read_csv(path, "a list of patches"))
    else:
        entries = [(line, "") for line in _lines(path)]
    reasons: dict[str, str] = {}
    for name, reason in entries:
        if name.strip() and not reasons.get(name):
            reasons[name] = reason
    if not reasons and not is_table:
        raise DataError(f"--exclude {path}: names no patch; list one name in each line")
    return Exclusion(
        str(path), {name: reason or DEFAULT_REASON for name, reason in reasons.items()}, key
    )


def _table_entries(path: Path, table: TextTable) -> list[tuple[str, str]]:
    column = next((name for name in NAME_COLUMNS if name in table.columns), None)
    if column is None:
        raise DataError(
            f"--exclude {path}: no column {' or '.join(NAME_COLUMNS)}; name the column of the"
            " patches so, or list one name in each line of a .txt file"
        )
    names = table.column(column)
    if REASON_COLUMN not in table.columns:
        return [(name, "") for name in names]
    return list(zip(names, table.column(REASON_COLUMN), strict=True))


def _lines(path: Path) -> list[str]:
    try:
        with open_regular(path) as file:
            return file.read().decode("utf-8-sig").splitlines()
    except UnicodeError:
        raise DataError(f"--exclude {path}: not UTF-8; save it as UTF-8") from None
    except OSError as error:
        raise DataError(
            f"--exclude {path}: cannot be read ({first_line(error)}); name a list of patches"
        ) from None


def leave_out(source: str, listing: Listing, exclusion: Exclusion) -> Listing:
    """Return `listing` without the patches of `exclusion`, which its `excluded` names.

    Args:
        source: What the user has named, for error messages.
        listing: The content of the source.
        exclusion: The patches to leave out. One that the source has rejected stays rejected.

    Raises:
        DataError: If the list has a name that the source does not have.
    """
    remaining: list[Item] = []
    excluded: list[Rejected] = []
    names = {exclusion.name_of(entry.file) for entry in listing.rejected}
    for item in listing.items:
        name = exclusion.name_of(item.file)
        if name is None and listing.slides is not None:  # the name of a slide is that of its tiles
            name = exclusion.name_of(item.file.rpartition("#")[0])
        if name is None:
            remaining.append(item)
        else:
            names.add(name)
            excluded.append(Rejected(item.file, f"{PREFIX}{exclusion.reasons[name]}"))
    unknown = sorted(exclusion.reasons.keys() - names)
    if unknown:
        files = [item.file for item in listing.items]
        raise DataError(_unknown_names(source, exclusion, unknown, files))
    return replace(listing, items=remaining, excluded=excluded)


def _unknown_names(
    source: str, exclusion: Exclusion, unknown: Sequence[str], files: Collection[str]
) -> str:
    nearest = nearest_name(unknown[0], files)
    advice = f"; the nearest name is {nearest!r}" if nearest else ""
    return (
        f"--exclude {exclusion.list_file}: {len(unknown):,} of its {len(exclusion.reasons):,} names"
        f" are not in {source}, such as {unknown[0]!r}{advice}; correct or remove them"
    )


def nearest_name(name: str, files: Collection[str]) -> str | None:
    """Return the most similar name among `files`: of the same base name, or near in their order."""
    base_name = name.rpartition("/")[2]
    ordered = sorted(files)
    place = bisect_left(ordered, name)
    neighbors = ordered[max(0, place - NUM_NEIGHBORS) : place + NUM_NEIGHBORS]
    same_base = [file for file in ordered if file.rpartition("/")[2] == base_name]
    matches = get_close_matches(name, same_base[:NUM_NEIGHBORS], 1, 0.0) or get_close_matches(
        name, neighbors, 1, 0.0
    )
    return matches[0] if matches else None
