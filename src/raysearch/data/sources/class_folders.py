"""A folder a class, with images anywhere below."""

from __future__ import annotations

import re

from raysearch.data.shards.decoding import NO_IMAGE, is_image
from raysearch.data.sources.file_paths import existing, files_of
from raysearch.data.sources.listing import ALONE, Ask, Item, Listing, Rejected
from raysearch.errors import DataError

PARTS = {
    "train": "train",
    "training": "train",
    "val": "valid",
    "valid": "valid",
    "validation": "valid",
    "test": "test",
    "testing": "test",
}
ADVICE = "shard again with --patient REGEX"


def folder_source(source: str, ask: Ask) -> Listing:
    """A folder a class; SECM and tissue-microarray images come like this, too.

    Where the folders at the top are all parts of a split, such as `train` and `test`, the classes
    are below them. The patient is the first group of the regular expression `patient`, searched in
    the path below SOURCE (the whole match where it has no group); without one each file is its own.
    """
    folder = existing(source)
    pattern = _pattern(ask.patient)
    files, rejected = files_of(folder)
    tops = {file.split("/")[0] for file in files if "/" in file}
    depth = 1 if tops and tops <= set(PARTS) else 0
    found = {file: file.split("/")[depth] for file in files if file.count("/") > depth}
    images = {name for file, name in found.items() if is_image(file)}
    names = ask.classes or tuple(sorted(images))
    absent = sorted(set(ask.classes) - images)
    if absent:
        raise DataError(
            f"--classes: no image in a folder {absent[0]!r}; the folders are"
            f" {', '.join(sorted(images))}"
        )
    items: list[Item] = []
    for file in files:
        group, name = _group(pattern, file), found.get(file)
        if not is_image(file):
            rejected.append(Rejected(file, NO_IMAGE))
        elif name is None:
            rejected.append(Rejected(file, "in no class folder"))
        elif name not in names:
            rejected.append(Rejected(file, f"class {name!r} is none of {', '.join(names)}"))
        elif not group:
            rejected.append(Rejected(file, "no patient in its path by --patient"))
        else:
            part = PARTS[file.split("/")[0]] if depth else ""
            items.append(Item(file, names.index(name), group, group, split=part))
    warnings = () if pattern else (ALONE.format(advice=ADVICE),)
    return Listing(names, items, rejected, warnings=warnings, folder=folder)


def _group(pattern: re.Pattern[str] | None, file: str) -> str | None:
    """The patient of `file`: itself without a pattern; None or empty where it names none."""
    if pattern is None:
        return file
    match = pattern.search(file)
    return match[1 if pattern.groups else 0] if match else None


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
