"""Lists a folder of images without labels, to predict them."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from raysearch.data.images.decoding import is_image
from raysearch.data.sources.file_paths import list_files, require_folder
from raysearch.data.sources.listing import Item, Listing, Rejected, SourceOptions

# A file name with the position of the patch, as in IDC.
NAME_WITH_POSITION = re.compile(
    r"(?P<slide>.*?)(_idx[0-9]+)?_x(?P<x>[0-9]{1,9})_y(?P<y>[0-9]{1,9})([_.].*)?"
)


def list_unlabeled_images(source: str, _options: SourceOptions) -> Listing:
    """List all images in `source` and its subfolders.

    The folder of an image is its patient and its slide. For an image directly in `source`, these
    are its file name without the position.
    """
    folder = require_folder(source)
    files, rejected = list_files(folder)
    rejected += [Rejected(file, "no image by its name") for file in files if not is_image(file)]
    items = [parse_unlabeled_path(file) for file in files if is_image(file)]
    return Listing((), items, rejected, folder=folder)


def parse_unlabeled_path(file: str) -> Item:
    """Read the slide and, if its name contains it, the position of an image from its path."""
    path = PurePosixPath(file)
    match = NAME_WITH_POSITION.fullmatch(path.name)
    folder = "" if path.parent == PurePosixPath() else path.parent.as_posix()
    if match is None:
        return Item(file, None, folder or path.stem, folder)
    slide = folder or match["slide"] or path.stem
    return Item(file, None, slide, slide, int(match["x"]), int(match["y"]))
