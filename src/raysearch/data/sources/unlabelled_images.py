"""A folder of images of which nobody knows the labels."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from raysearch.data.shards.decoding import is_image
from raysearch.data.sources.file_paths import existing, files_of
from raysearch.data.sources.listing import Ask, Item, Listing, Rejected

# Where a file's name tells the place of its patch, as IDC's do.
PLACED = re.compile(r"(?P<slide>.*?)(_idx[0-9]+)?_x(?P<x>[0-9]{1,9})_y(?P<y>[0-9]{1,9})([_.].*)?")


def images(source: str, _ask: Ask) -> Listing:
    """Every image below `source`; the folder that it is in is its patient, and its slide.

    At the top, the name of the file is, without the place of the patch. x and y are as named.
    """
    folder = existing(source)
    files, rejected = files_of(folder)
    rejected += [Rejected(file, "no image by its name") for file in files if not is_image(file)]
    items = [item_of(file) for file in files if is_image(file)]
    return Listing((), items, rejected, folder=folder)


def item_of(file: str) -> Item:
    """What the name of `file`, below the folder, tells."""
    path = PurePosixPath(file)
    match = PLACED.fullmatch(path.name)
    inside = "" if path.parent == PurePosixPath() else path.parent.as_posix()
    if match is None:
        return Item(file, None, inside or path.stem, inside)
    own = inside or match["slide"] or path.stem
    return Item(file, None, own, own, int(match["x"]), int(match["y"]))
