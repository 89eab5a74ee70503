"""Reads the slide and the position of a patch from the name of its file.

Names of these tools are known: QuPath's TileExporter, IDC's and similar ones with `_x..._y...`, and
those of scripts that cut the patches that CLAM has found, one folder for each slide.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import NamedTuple

NUMBER = r"[0-9]{1,9}"
# `IMAGE [d=DOWNSAMPLE,x=X,y=Y,w=WIDTH,h=HEIGHT,z=PLANE,t=TIME]`; d, z and t are optional.
QUPATH = re.compile(
    rf"(?P<slide>.+) \[(?:d=[0-9.,]+,)?x=(?P<x>{NUMBER}),y=(?P<y>{NUMBER}),w={NUMBER},h={NUMBER}"
    rf"(?:,z={NUMBER})?(?:,t={NUMBER})?\](?P<label_image>-labell?ed)?"
)
# `SLIDE_x1_y51`, `SLIDE_idx5_x1_y51_class0`, `_x_1_y_51`, `x-1_y-51`.
MARKED = re.compile(
    rf"(?:(?P<slide>.*?)(?:_idx[0-9]+)?_)?x[-_=]?(?P<x>{NUMBER})[_,]y[-_=]?(?P<y>{NUMBER})"
    r"(?:[_,.].*)?"
)
# `X_Y`, `X_Y_WIDTH_HEIGHT`, `SLIDE_X_Y` in the folder SLIDE.
UNMARKED = re.compile(rf"(?:(?P<slide>.+)_)?(?P<x>{NUMBER})_(?P<y>{NUMBER})")
UNMARKED_SIZE = re.compile(rf"(?P<x>{NUMBER})_(?P<y>{NUMBER})_{NUMBER}_{NUMBER}")
LABEL_IMAGE = "a label image of QuPath, and no tissue"


class TilePlace(NamedTuple):
    """Where on a slide a patch lies.

    Attributes:
        slide: The slide in the file's name; empty if the name does not contain it.
        x: Horizontal position in pixels.
        y: Vertical position in pixels.
    """

    slide: str
    x: int
    y: int


def tile_place(file: str, slide_folder: str = "") -> TilePlace | None:
    """The position of a patch by the name of its file.

    Args:
        file: The path of the file.
        slide_folder: The folder of the file's slide; empty if the file is in no such folder.
            Numbers without `x` and `y` are a position only in such a folder.

    Returns:
        The position, or None if the name contains none.
    """
    stem = PurePosixPath(file).stem
    match = QUPATH.fullmatch(stem) or MARKED.fullmatch(stem)
    if match is None and slide_folder:
        match = UNMARKED_SIZE.fullmatch(stem) or UNMARKED.fullmatch(stem)
        name = match.groupdict().get("slide") if match else None
        if name and name != slide_folder.rpartition("/")[2]:
            return None
    if match is None:
        return None
    return TilePlace(match.groupdict().get("slide") or "", int(match["x"]), int(match["y"]))


def is_qupath_tile(file: str) -> bool:
    """Whether the file has the name of a tile that QuPath has exported."""
    return QUPATH.fullmatch(PurePosixPath(file).stem) is not None


def is_label_image(file: str) -> bool:
    """Whether the file is an image of labels, which QuPath exports beside a tile."""
    match = QUPATH.fullmatch(PurePosixPath(file).stem)
    return match is not None and match["label_image"] is not None
