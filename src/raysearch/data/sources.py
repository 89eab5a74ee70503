"""Where patches come from: each source is one function and one line in `SOURCES`.

A source lists what is there without decoding it: `Item`s to decode and `Refused` files by name.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from raysearch.data.files import Folder
from raysearch.data.synthetic import synthetic_listing
from raysearch.errors import DataError

IDC_NAME = re.compile(
    r"(?P<patient>.+)_idx5_x(?P<x>[0-9]{1,9})_y(?P<y>[0-9]{1,9})_class(?P<label>[01])\.png"
)
IDC_NESTED = "IDC_regular_ps50_idx5"
IMAGES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
UNREADABLE = "its name is not UTF-8"
ALONE = (
    "no patient is known: each file counts as a patient of its own, so a patient's patches may"
    " stand on both sides of a split and flatter every score; shard again with --patient REGEX"
)


class Item(NamedTuple):
    """One image to decode, and what its place in the source says of it."""

    file: str
    label: int
    patient: str
    slide: str
    x: int | None
    y: int | None


class Refused(NamedTuple):
    """A file that is left out, and why."""

    file: str
    reason: str


@dataclass(frozen=True)
class Listing:
    """What a source holds; `size` is (width, height), None for the most frequent one.

    `folder` is where the items' files are; a source that draws its patches has none.
    """

    class_names: tuple[str, ...]
    items: Sequence[Item]
    refused: Sequence[Refused] = ()
    size: tuple[int, int] | None = None
    warnings: tuple[str, ...] = ()
    folder: Folder | None = field(default=None)


def idc(source: str, _patient: str | None) -> Listing:
    """The invasive ductal carcinoma patches as Kaggle distributes them.

    `<patient>/<0|1>/<patient>_idx5_x<X>_y<Y>_class<c>.png`; the archive's nested second copy is
    left out where it stands beside the patients, and used where it is all there is.
    """
    folder = _existing(source)
    top = [name for name in folder.names() if name != IDC_NESTED]
    if not top and folder.exists(IDC_NESTED):
        folder = folder / IDC_NESTED
    found = [_idc_item(file) for file in _files(folder, skip=IDC_NESTED)]
    items = [one for one in found if isinstance(one, Item)]
    refused = [one for one in found if isinstance(one, Refused)]
    return Listing(("negative", "positive"), items, refused, (50, 50), folder=folder)


def _idc_item(file: str) -> Item | Refused:
    if not _is_text(file):
        return Refused(file, UNREADABLE)
    parts = file.split("/")
    match = IDC_NAME.fullmatch(parts[-1])
    if match is None or len(parts) != 3:
        return Refused(file, "not named PATIENT/0|1/PATIENT_idx5_xX_yY_class0|1.png")
    if parts[1] != match["label"]:
        return Refused(file, f"class {match['label']} in its name, folder {parts[1]}")
    if parts[0] != match["patient"]:
        return Refused(file, f"patient {match['patient']} in its name, folder {parts[0]}")
    x, y = int(match["x"]), int(match["y"])
    return Item(file, int(match["label"]), parts[0], parts[0], x, y)


def folder_source(source: str, patient: str | None) -> Listing:
    """A folder a class, with images anywhere below.

    The patient is the first group of the regular expression `patient`, searched in the path below
    SOURCE (the whole match where it has no group); without one each file is its own.
    """
    folder = _existing(source)
    pattern = _pattern(patient)
    files = list(_files(folder))
    names = sorted({file.split("/")[0] for file in files if "/" in file and _is_text(file)})
    items: list[Item] = []
    refused: list[Refused] = []
    for file in files:
        group = _group(pattern, file)
        if not _is_text(file):
            refused.append(Refused(file, UNREADABLE))
        elif "/" not in file:
            refused.append(Refused(file, "in no class folder"))
        elif not group:
            refused.append(Refused(file, "no patient in its path by --patient"))
        else:
            items.append(Item(file, names.index(file.split("/")[0]), group, group, None, None))
    warnings = () if pattern else (ALONE,)
    return Listing(tuple(names), items, refused, warnings=warnings, folder=folder)


def _group(pattern: re.Pattern[str] | None, file: str) -> str | None:
    """The patient of `file`: itself without a pattern; None or empty where it names none."""
    if pattern is None:
        return file
    match = pattern.search(file)
    return match[1 if pattern.groups else 0] if match else None


def _is_text(file: str) -> bool:
    """Whether a shard can hold the name, which a name on a disk need not be."""
    try:
        file.encode()
    except UnicodeEncodeError:
        return False
    return True


def _pattern(patient: str | None) -> re.Pattern[str] | None:
    if patient is None:
        return None
    try:
        return re.compile(patient)
    except re.error as error:
        raise DataError(
            f"--patient {patient!r} is no regular expression ({error}); give one such as"
            " '^[^/]+/(\\d+)'"
        ) from None


def synthetic(source: str, _patient: str | None) -> Listing:
    """H&E-like patches drawn by `PATIENTS:PATCHES:SEED`, see `raysearch.data.synthetic`."""
    labels, patients = synthetic_listing(source)
    items = [
        Item(f"synthetic/{number:06d}", label, f"p{patient:03d}", f"p{patient:03d}", None, None)
        for number, (label, patient) in enumerate(
            zip(labels.tolist(), patients.tolist(), strict=True)
        )
    ]
    return Listing(("negative", "positive"), items, size=(50, 50))


SOURCES: dict[str, Callable[[str, str | None], Listing]] = {
    "idc": idc,
    "folder": folder_source,
    "synthetic": synthetic,
}


def list_source(source: str, form: str, patient: str | None) -> Listing:
    """What `source` holds by the format `form`.

    DataError for an unknown format, a folder that is missing or empty, and for two labels at one
    place of one patient.
    """
    if form not in SOURCES:
        raise DataError(f"--format {form!r} is unknown; one of {', '.join(SOURCES)}")
    listing = SOURCES[form](source, patient)
    if not listing.items and not listing.refused:
        raise DataError(f"{source}: no files in it; give the folder that holds the images")
    _refuse_contradictions(listing.items)
    return listing


def _refuse_contradictions(items: Sequence[Item]) -> None:
    seen: dict[tuple[str, int, int], Item] = {}
    for item in items:
        if item.x is None or item.y is None:
            continue
        other = seen.setdefault((item.patient, item.x, item.y), item)
        if other.label != item.label:
            raise DataError(
                f"two labels for patient {item.patient} at x {item.x}, y {item.y}: {other.file} and"
                f" {item.file}; remove the wrong one"
            )


def most_frequent(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The size that most images have; among equals the largest."""
    counts = Counter(sizes)
    return max(counts, key=lambda size: (counts[size], size))


def _existing(source: str) -> Folder:
    folder = Folder(source)
    if not folder.exists():
        raise DataError(f"{source}: no such folder; give the folder that holds the images")
    if not folder.fs.isdir(folder.path()):
        raise DataError(f"{source}: not a folder; give the folder that holds the images")
    return folder


def _files(folder: Folder, skip: str | None = None) -> list[str]:
    """Every file below `folder`, sorted, by its path from there."""
    start = len(folder.root) + 1
    found = sorted(path[start:] for path in _paths(folder))
    return [file for file in found if skip is None or not file.startswith(f"{skip}/")]


def _paths(folder: Folder) -> Iterator[str]:
    if folder.is_local:  # six times as fast as fsspec's way
        for place, _folders, files in os.walk(folder.path(), followlinks=True):
            yield from (f"{place}/{file}" for file in files)
    else:
        yield from map(str, folder.fs.find(folder.path()))
