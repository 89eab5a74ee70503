"""What a source says is there, before anything is decoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from raysearch.data.files import Folder

UNREADABLE = "its name is not UTF-8"
ALONE = (
    "no patient is known: each file counts as a patient of its own, so a patient's patches may"
    " stand on both sides of a split and flatter every score; {advice}"
)


class Item(NamedTuple):
    """One image to decode, and what its place in the source says of it.

    `label` is the number of its class, None where nobody knows it; `others` are its labels in the
    listing's further tasks. What is unknown is None or empty.
    """

    file: str
    label: int | None
    patient: str
    slide: str = ""
    x: int | None = None
    y: int | None = None
    site: str = ""
    magnification: int | None = None
    split: str = ""
    others: tuple[int | None, ...] = ()


class Rejected(NamedTuple):
    """A file that is left out, and why."""

    file: str
    reason: str


class Task(NamedTuple):
    """What can be learned from a set: its name, and its classes in the order of their numbers."""

    name: str
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class Ask:
    """What the user says of a source beside its place.

    `patient` is a regular expression, `classes` the names of the classes in their order,
    `magnifications` those to keep, `official` the folder of PCam's HDF5 files. `scratch` is a
    folder for what has to be unpacked; it goes when the shards are written.
    """

    scratch: Path = Path()
    patient: str | None = None
    classes: tuple[str, ...] = ()
    magnifications: tuple[int, ...] = ()
    official: str | None = None


@dataclass(frozen=True)
class Listing:
    """What a source holds; `size` is (width, height), None for the most frequent one.

    `folder` is where the items' files are; a source that draws its patches has none. In one of
    `rows`, an item's file is `NAME#ROW`, a row of an HDF5 file. `tasks` are those beside the one of
    `class_names`.
    """

    class_names: tuple[str, ...]
    items: Sequence[Item]
    rejected: Sequence[Rejected] = ()
    size: tuple[int, int] | None = None
    warnings: tuple[str, ...] = ()
    folder: Folder | None = field(default=None)
    rows: bool = False
    tasks: tuple[Task, ...] = ()
