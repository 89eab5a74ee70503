"""Lists the IDC patches (Cruz-Roa et al., 2014; Janowczyk and Madabhushi, 2016) of Kaggle."""

from __future__ import annotations

import re

from raysearch.data.files import Folder
from raysearch.data.sources.file_paths import list_files, require_folder, visible_names
from raysearch.data.sources.listing import Item, Listing, Rejected, SourceOptions, divide

FILE_NAME = re.compile(
    r"(?P<patient>.+)_idx5_x(?P<x>[0-9]{1,9})_y(?P<y>[0-9]{1,9})_class(?P<label>[01])\.png"
)
# The archive contains a second copy of all patients in this folder.
NESTED_COPY = "IDC_regular_ps50_idx5"
CLASSES = ("negative", "positive")
# So many entries of a folder are looked at, to detect the format.
MAX_PATIENTS = 10


def list_idc(source: str, _options: SourceOptions) -> Listing:
    """List `<patient>/<0|1>/<patient>_idx5_x<X>_y<Y>_class<c>.png`; x and y count from 1.

    The archive's nested second copy is ignored, unless there is nothing else.
    """
    folder = require_folder(source)
    files, unreadable = list_files(folder, skip=NESTED_COPY)
    items, rejected = divide([parse_idc_path(file) for file in files])
    rejected = [*unreadable, *rejected]
    if not items and folder.exists(NESTED_COPY):
        folder = folder / NESTED_COPY
        files, unreadable = list_files(folder)
        items, misnamed = divide([parse_idc_path(file) for file in files])
        rejected += [*unreadable, *misnamed]
    return Listing(CLASSES, items, rejected, (50, 50), folder=folder)


def is_idc(source: str) -> bool:
    """Whether the folder of one of the first patients contains such a file."""
    folder = Folder(source)
    if folder.exists(NESTED_COPY):
        folder = folder / NESTED_COPY
    for patient in visible_names(folder)[:MAX_PATIENTS]:
        for label in ("0", "1"):
            files = visible_names(folder, f"{patient}/{label}")[:1]
            if files and FILE_NAME.fullmatch(files[0]):
                return True
    return False


def parse_idc_path(file: str) -> Item | Rejected:
    """Parse the path of an image; it is rejected if its folders contradict its name."""
    parts = file.split("/")
    match = FILE_NAME.fullmatch(parts[-1])
    if match is None or len(parts) != 3:
        return Rejected(file, "not named PATIENT/0|1/PATIENT_idx5_xX_yY_class0|1.png")
    if parts[1] != match["label"]:
        return Rejected(file, f"class {match['label']} in its name, folder {parts[1]}")
    if parts[0] != match["patient"]:
        return Rejected(file, f"patient {match['patient']} in its name, folder {parts[0]}")
    x, y = int(match["x"]), int(match["y"])
    return Item(file, int(match["label"]), parts[0], parts[0], x, y)
