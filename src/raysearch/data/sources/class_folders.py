"""Lists a folder with one subfolder for each class, as torchvision's ImageFolder expects it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from unicodedata import normalize

from raysearch.data.images.decoding import NO_IMAGE, is_image
from raysearch.data.sources.file_paths import list_files, require_folder
from raysearch.data.sources.listing import (
    UNKNOWN_PATIENTS,
    Item,
    Listing,
    Rejected,
    SourceOptions,
    divide,
)
from raysearch.data.sources.patient_patterns import NO_PATIENT, find_patients
from raysearch.data.sources.tile_names import LABEL_IMAGE, is_label_image, tile_place
from raysearch.errors import DataError

# Names of the folders of an official split, such as `train`, `Test` or `validation_set`.
SPLIT_FOLDER = re.compile(
    r"(?:(?P<train>train|training)|(?P<valid>val|valid|validation)|(?P<test>test|testing))"
    r"(?:[ _-]?(?:set|data|images|patches))?",
    re.IGNORECASE,
)
ADVICE = "shard again with --patient REGEX"
UNKNOWN_SLIDES = (
    "no patient is known: each slide counts as its own patient, so slides of one patient may be on"
    f" both sides of a split, which makes every score too optimistic; {ADVICE}"
)
MAX_NAMES = 5


def list_class_folders(source: str, options: SourceOptions) -> Listing:
    """List a folder with one subfolder for each class, such as confocal or microarray images.

    If all folders at the top are parts of an official split, such as `train` and `test`, the class
    folders are in them. The patient is the first group of the regular expression
    `options.patient`, searched in the path below `source`, or its whole match if it has no group.
    Without a regular expression, the slide is the patient if the file's name contains a position
    on a slide, see `tile_place`; else, each file is its own patient.

    Raises:
        DataError: If it is in doubt which folders are the classes.
    """
    folder = require_folder(source)
    files, rejected = list_files(folder)
    paths = [_Path(file) for file in files]
    images = [path for path in paths if is_image(path.file)]
    layout = _find_layout(source, images, options.classes)
    patients = find_patients(options.patient, files)
    entries = [
        _parse(path, layout, patient, options.patient is not None)
        for path, patient in zip(paths, patients, strict=True)
    ]
    items, not_listed = divide(entries)
    warnings: tuple[str, ...] = ()
    if options.patient is None:
        has_slides = bool(items) and all(item.slide != item.file for item in items)
        warnings = (UNKNOWN_SLIDES if has_slides else UNKNOWN_PATIENTS.format(advice=ADVICE),)
    return Listing(
        layout.class_names, items, [*rejected, *not_listed], warnings=warnings, folder=folder
    )


class _Path:
    """The path of a file, and its parts in Unicode's composed form."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.text = normalize("NFC", file)
        *self.folders, self.name = self.text.split("/")

    def folder(self, level: int) -> str:
        """The folder at `level`, which counts from 0; empty if the path is shorter."""
        return self.folders[level] if level < len(self.folders) else ""


@dataclass(frozen=True)
class _Layout:
    """Where the classes are in a path.

    Attributes:
        class_names: The classes in order.
        class_level: The level of the class folders: 0 at the top, 1 in the folders of a split.
        has_splits: Whether the folders at the top are parts of an official split.
    """

    class_names: tuple[str, ...]
    class_level: int
    has_splits: bool


def _find_layout(source: str, images: Sequence[_Path], classes: tuple[str, ...]) -> _Layout:
    names = tuple(normalize("NFC", name) for name in classes)
    top_folders = {path.folder(0) for path in images} - {""}
    subfolders = {path.folder(1) for path in images} - {""}
    splits = {name for name in top_folders if _split(name)}
    if names and set(names) <= top_folders:
        return _Layout(names, 0, has_splits=False)
    if names and set(names) <= subfolders:
        return _Layout(names, 1, has_splits=bool(splits))
    if splits and splits != top_folders:
        raise DataError(
            f"{source}: of its folders, {_some(splits)} would be parts of a split, and"
            f" {_some(top_folders - splits)} would not; move those out of it, or name the classes"
            " in order with --classes"
        )
    level = 1 if splits else 0
    class_folders = subfolders if splits else top_folders
    if names:
        missing = next(name for name in names if name not in class_folders)
        raise DataError(
            f"--classes: no image in a folder {missing!r}; the folders are {_some(class_folders)}"
        )
    _reject_doubtful_level(source, images, level)
    return _Layout(tuple(sorted(class_folders)), level, has_splits=bool(splits))


def _reject_doubtful_level(source: str, images: Sequence[_Path], level: int) -> None:
    """Raise DataError if the classes may be one level below `level`.

    This is so if all folders contain the same subfolders, and these are not more than the folders:
    patients are usually more than classes.
    """
    subfolders: dict[str, set[str]] = {}
    for path in images:
        if path.folder(level):
            subfolders.setdefault(path.folder(level), set()).add(path.folder(level + 1))
    if not subfolders:
        return
    first, *others = subfolders.values()
    if len(first) < 2 or "" in first or any(other != first for other in others):
        return
    if others and len(first) > len(subfolders):
        return
    if others:
        raise DataError(
            f"{source}: each of its folders {_some(subfolders)} contains {_some(first)}; name those"
            " that are the classes, in order, with --classes"
        )
    (name,) = subfolders
    raise DataError(
        f"{source}: all its images are in one folder, {name}, which contains {_some(first)}; give"
        f" that folder if those are the classes, or add --classes {name!r} if it is the only class"
    )


def _some(names: set[str] | dict[str, set[str]]) -> str:
    """The first of the sorted names, for a message."""
    more = f" and {len(names) - MAX_NAMES:,} more" if len(names) > MAX_NAMES else ""
    return ", ".join(sorted(names)[:MAX_NAMES]) + more


def _split(name: str) -> str:
    """The part of the official split that a folder contains; empty if it is none."""
    match = SPLIT_FOLDER.fullmatch(name)
    return str(match.lastgroup) if match else ""


def _parse(
    path: _Path, layout: _Layout, patient: str, is_patient_required: bool
) -> Item | Rejected:
    file = path.file
    rejection = _rejection(path, layout)
    if not rejection and is_patient_required and not patient:
        rejection = NO_PATIENT
    if rejection:
        return Rejected(file, rejection)
    label = layout.class_names.index(path.folder(layout.class_level))
    split = _split(path.folder(0)) if layout.has_splits else ""
    slide_folder = "/".join(path.folders[layout.class_level + 1 :])
    place = tile_place(path.text, slide_folder)
    if place is None:
        return Item(file, label, patient or file, patient or file, split=split)
    slide = place.slide or slide_folder or patient or file
    return Item(file, label, patient or slide, slide, place.x, place.y, split=split)


def _rejection(path: _Path, layout: _Layout) -> str:
    """Why a file cannot be used; empty if it can."""
    class_name = path.folder(layout.class_level)
    if not is_image(path.file):
        return NO_IMAGE
    if is_label_image(path.file):
        return LABEL_IMAGE
    if not class_name:
        return "in no class folder"
    if class_name not in layout.class_names:
        return f"class {class_name!r} is none of {', '.join(layout.class_names)}"
    if layout.has_splits and not _split(path.folder(0)):
        return f"folder {path.folder(0)!r} is no part of the split"
    return ""
