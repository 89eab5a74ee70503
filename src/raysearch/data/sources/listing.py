"""The records that describe a source before any image is decoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from raysearch.data.files import Folder

NOT_UTF8 = "its name is not UTF-8"
UNKNOWN_PATIENTS = (
    "no patient is known: each file counts as its own patient, so patches of one patient may be on"
    " both sides of a split, which makes every score too optimistic; {advice}"
)


class Item(NamedTuple):
    """One image to decode, and what the source says about it.

    `label` is the class number, None if unknown. `task_labels` are the class numbers in the
    listing's additional tasks. Other unknown values are None or empty.
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
    task_labels: tuple[int | None, ...] = ()


class Rejected(NamedTuple):
    """A file that is left out, and the reason."""

    file: str
    reason: str


class Task(NamedTuple):
    """An additional classification task: its name, and its classes in order of their numbers."""

    name: str
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class SourceOptions:
    """Options that say how to read a source.

    Attributes:
        scratch: A folder for unpacked files; it is removed when the shards are written.
        patient: A regular expression that finds the patient in a file's path.
        classes: The class names in order.
        magnifications: The magnifications to include; empty for all.
        official: The folder of PatchCamelyon's official HDF5 files.
    """

    scratch: Path = Path()
    patient: str | None = None
    classes: tuple[str, ...] = ()
    magnifications: tuple[int, ...] = ()
    official: str | None = None


@dataclass(frozen=True)
class Listing:
    """The content of a source.

    Attributes:
        class_names: The classes of the default task, in order of their numbers.
        items: The images to decode.
        rejected: The files that are left out.
        size: (width, height) of the patches; None for the most frequent size.
        warnings: Warnings for the manifest.
        folder: The folder of the items' files; None if the patches are synthesized.
        is_hdf5: Whether an item's file is `NAME#ROW`, a row of an HDF5 file.
        tasks: The additional tasks.
    """

    class_names: tuple[str, ...]
    items: Sequence[Item]
    rejected: Sequence[Rejected] = ()
    size: tuple[int, int] | None = None
    warnings: tuple[str, ...] = ()
    folder: Folder | None = None
    is_hdf5: bool = False
    tasks: tuple[Task, ...] = ()


def divide(entries: Sequence[Item | Rejected]) -> tuple[list[Item], list[Rejected]]:
    """Divide `entries` into items and rejected files."""
    items = [entry for entry in entries if isinstance(entry, Item)]
    return items, [entry for entry in entries if isinstance(entry, Rejected)]
