"""The invasive ductal carcinoma patches of Cruz-Roa and Janowczyk, as Kaggle distributes them."""

from __future__ import annotations

import re

from raysearch.data.files import Folder
from raysearch.data.sources.file_paths import existing, files_of
from raysearch.data.sources.listing import Ask, Item, Listing, Rejected

NAME = re.compile(
    r"(?P<patient>.+)_idx5_x(?P<x>[0-9]{1,9})_y(?P<y>[0-9]{1,9})_class(?P<label>[01])\.png"
)
NESTED = "IDC_regular_ps50_idx5"
CLASSES = ("negative", "positive")


def idc(source: str, _ask: Ask) -> Listing:
    """`<patient>/<0|1>/<patient>_idx5_x<X>_y<Y>_class<c>.png`; x and y count from 1.

    The archive's nested second copy is left out where it stands beside the patients, and used
    where it is all there is.
    """
    folder = existing(source)
    top = [name for name in folder.names() if name != NESTED]
    if not top and folder.exists(NESTED):
        folder = folder / NESTED
    files, rejected = files_of(folder, skip=NESTED)
    found = [item_of(file) for file in files]
    items = [one for one in found if isinstance(one, Item)]
    rejected += [one for one in found if isinstance(one, Rejected)]
    return Listing(CLASSES, items, rejected, (50, 50), folder=folder)


def is_idc(source: str) -> bool:
    """Whether the first patient's folder holds such a file."""
    folder = Folder(source)
    if folder.exists(NESTED):
        folder = folder / NESTED
    for patient in folder.names()[:3]:
        for label in ("0", "1"):
            files = folder.names(f"{patient}/{label}")[:1]
            if files and NAME.fullmatch(files[0]):
                return True
    return False


def item_of(file: str) -> Item | Rejected:
    """What `file`, by its name below the archive's top, is; rejected where its parts disagree."""
    parts = file.split("/")
    match = NAME.fullmatch(parts[-1])
    if match is None or len(parts) != 3:
        return Rejected(file, "not named PATIENT/0|1/PATIENT_idx5_xX_yY_class0|1.png")
    if parts[1] != match["label"]:
        return Rejected(file, f"class {match['label']} in its name, folder {parts[1]}")
    if parts[0] != match["patient"]:
        return Rejected(file, f"patient {match['patient']} in its name, folder {parts[0]}")
    x, y = int(match["x"]), int(match["y"])
    return Item(file, int(match["label"]), parts[0], parts[0], x, y)
