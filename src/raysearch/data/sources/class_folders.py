"""Lists a folder with one subfolder for each class, as torchvision's ImageFolder expects it."""

from __future__ import annotations

import re

from raysearch.data.images.decoding import NO_IMAGE, is_image
from raysearch.data.sources.file_paths import list_files, require_folder
from raysearch.data.sources.listing import (
    UNKNOWN_PATIENTS,
    Item,
    Listing,
    Rejected,
    SourceOptions,
)
from raysearch.errors import DataError

# Names of the folders of an official split.
SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "valid",
    "valid": "valid",
    "validation": "valid",
    "test": "test",
    "testing": "test",
}
ADVICE = "shard again with --patient REGEX"


def list_class_folders(source: str, options: SourceOptions) -> Listing:
    """List a folder with one subfolder for each class, such as confocal or microarray images.

    If all folders at the top are parts of an official split, such as `train` and `test`, the class
    folders are in them. The patient is the first group of the regular expression
    `options.patient`, searched in the path below `source`, or its whole match if it has no group.
    Without a regular expression, each file is its own patient.
    """
    folder = require_folder(source)
    pattern = _compile(options.patient)
    files, rejected = list_files(folder)
    top_folders = {file.split("/")[0] for file in files if "/" in file}
    class_level = 1 if top_folders and top_folders <= set(SPLIT_FOLDERS) else 0
    class_of = {
        file: file.split("/")[class_level] for file in files if file.count("/") > class_level
    }
    found_classes = {name for file, name in class_of.items() if is_image(file)}
    class_names = options.classes or tuple(sorted(found_classes))
    missing = sorted(set(options.classes) - found_classes)
    if missing:
        raise DataError(
            f"--classes: no image in a folder {missing[0]!r}; the folders are"
            f" {', '.join(sorted(found_classes))}"
        )
    items: list[Item] = []
    for file in files:
        patient, class_name = _patient(pattern, file), class_of.get(file)
        if not is_image(file):
            rejected.append(Rejected(file, NO_IMAGE))
        elif class_name is None:
            rejected.append(Rejected(file, "in no class folder"))
        elif class_name not in class_names:
            reason = f"class {class_name!r} is none of {', '.join(class_names)}"
            rejected.append(Rejected(file, reason))
        elif not patient:
            rejected.append(Rejected(file, "no patient in its path by --patient"))
        else:
            split = SPLIT_FOLDERS[file.split("/")[0]] if class_level else ""
            label = class_names.index(class_name)
            items.append(Item(file, label, patient, patient, split=split))
    warnings = () if pattern else (UNKNOWN_PATIENTS.format(advice=ADVICE),)
    return Listing(class_names, items, rejected, warnings=warnings, folder=folder)


def _patient(pattern: re.Pattern[str] | None, file: str) -> str | None:
    """The patient of `file`: the file itself without a pattern; None or empty if none matches."""
    if pattern is None:
        return file
    match = pattern.search(file)
    return match[1 if pattern.groups else 0] if match else None


def _compile(patient: str | None) -> re.Pattern[str] | None:
    if patient is None:
        return None
    try:
        return re.compile(patient)
    except re.error as error:
        raise DataError(
            f"--patient {patient!r} is no regular expression ({error}); give one such as"
            " '^[^/]+/(\\d+)'"
        ) from None
