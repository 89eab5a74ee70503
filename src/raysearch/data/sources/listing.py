"""The records that describe a source before any image is decoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from raysearch.data.files import Folder
from raysearch.data.images.decoding import MAX_DEPTH, MIN_DEPTH
from raysearch.data.pseudonyms import FILE, PseudonymKey
from raysearch.data.slides.slide_options import SlideOptions
from raysearch.data.slides.tile_grid import TileGrid
from raysearch.data.step_progress import StepCallback, ignore_progress
from raysearch.errors import DataError

NOT_UTF8 = "its name is not UTF-8"
# Words, in lower case, that programs write for a missing value.
MISSING_WORDS = frozenset(
    ("nan", "none", "null", "na", "n/a", "<na>", "#n/a", "nil", "unknown", "missing", "?", "-")
)
UNKNOWN_PATIENTS = (
    "no patient is known: each file counts as its own patient, so patches of one patient may be on"
    " both sides of a split, which makes every score too optimistic; {advice}"
)


class Item(NamedTuple):
    """One image to decode, and what the source says about it.

    `label` is the class number, None if unknown. `task_labels` are the class numbers in the
    listing's additional tasks. Other unknown values are None or empty.

    Of a tile of a slide, `x` and `y` are in pixels of level 0, `mpp` is the side of its pixel in
    micrometres, `downsample` is that side in pixels of level 0, and `tissue` is the fraction of
    tissue in it. Positions of other patches are in their own pixels.
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
    mpp: float | None = None
    tissue: float | None = None
    scanner: str = ""
    downsample: float = 1.0


class Rejected(NamedTuple):
    """A file that is left out, and the reason."""

    file: str
    reason: str


class Task(NamedTuple):
    """An additional classification task: its name, and its classes in order of their numbers."""

    name: str
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class Exclusion:
    """Patches to leave out of a source.

    Attributes:
        list_file: The file that lists them, for error messages.
        reasons: The reason of each, by its name.
        key: The key of the pseudonyms that the list may have instead of names; None for names.
    """

    list_file: str
    reasons: Mapping[str, str]
    key: PseudonymKey | None = None

    def name_of(self, file: str) -> str | None:
        """Return the name by which the list has the patch `file`, or None if it does not."""
        if file in self.reasons:
            return file
        if self.key is None:
            return None
        pseudonym = self.key.pseudonym(FILE, file)
        return pseudonym if pseudonym in self.reasons else None


@dataclass(frozen=True)
class SourceOptions:
    """Options that say how to read a source.

    Attributes:
        scratch: A folder for unpacked files; it is removed when the shards are written.
        patient: A regular expression that finds the patient in a file's path.
        classes: The class names in order.
        magnifications: The magnifications to include; empty for all.
        official: The folder of PatchCamelyon's official HDF5 files.
        depth: The number of bits that images of 16 bits a channel use; None rejects these images.
        exclusion: The patches to leave out; None to use all.
        root: The folder to which the paths of a CSV file are relative, and in which absolute ones
            must lie; None for the folder of the CSV file.
        class_map: The new name of each class that the shards name differently.
        center: The side of the square in the center of a patch on which its label depends, in
            pixels of the patches; None if the label depends on the whole patch, or the format
            knows it.
        slides: How slides are cut into tiles.
        contact_sheets: Whether a contact sheet of each slide is written to `scratch`.
        executor: Runs work in other processes; None runs it in this one.
        progress: Is called while slides are read.
    """

    scratch: Path = Path()
    patient: str | None = None
    classes: tuple[str, ...] = ()
    magnifications: tuple[int, ...] = ()
    official: str | None = None
    depth: int | None = None
    exclusion: Exclusion | None = None
    root: str | None = None
    class_map: Mapping[str, str] = field(default_factory=dict)
    center: int | None = None
    slides: SlideOptions = field(default_factory=SlideOptions)
    contact_sheets: bool = True
    executor: Executor | None = None
    progress: StepCallback = ignore_progress


@dataclass(frozen=True)
class SlideGrids:
    """How the slides of a source are cut into tiles.

    Attributes:
        grids: The grid of the tiles of each slide, by the name of the slide.
        sheets: The PNG file with the contact sheet of each slide, by the name of the slide.
        options: What was asked for.
    """

    grids: Mapping[str, TileGrid]
    sheets: Mapping[str, Path]
    options: SlideOptions


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
        excluded: The images that the user leaves out, with the reasons.
        center: The side of the square in the center of an image on which its label depends, in
            pixels of the image; None for the whole image.
        slides: How the slides are cut into the tiles that the items are; None if the items are
            image files.
    """

    class_names: tuple[str, ...]
    items: Sequence[Item]
    rejected: Sequence[Rejected] = ()
    size: tuple[int, int] | None = None
    warnings: tuple[str, ...] = ()
    folder: Folder | None = None
    is_hdf5: bool = False
    tasks: tuple[Task, ...] = ()
    excluded: Sequence[Rejected] = ()
    center: int | None = None
    slides: SlideGrids | None = None


def divide(entries: Sequence[Item | Rejected]) -> tuple[list[Item], list[Rejected]]:
    """Divide `entries` into items and rejected files."""
    items = [entry for entry in entries if isinstance(entry, Item)]
    return items, [entry for entry in entries if isinstance(entry, Rejected)]


def check_depth(depth: int | None, listing: Listing, source_format: str) -> None:
    """Raise DataError if `--depth` is no number of bits, or has no effect with the images."""
    if depth is None:
        return
    if not MIN_DEPTH <= depth <= MAX_DEPTH:
        raise DataError(f"--depth {depth}: not a number of bits; give {MIN_DEPTH} to {MAX_DEPTH}")
    if listing.folder is None or listing.is_hdf5 or listing.slides is not None:
        raise DataError(
            f"--depth: has no effect with format {source_format}, whose images have 8 bits; remove"
            " it"
        )
