"""Tiles that `raysearch harvest` cut out of papers, which nobody has labelled."""

from __future__ import annotations

import re

from raysearch.data.files import Folder
from raysearch.data.sources.file_paths import existing, files_of
from raysearch.data.sources.listing import Ask, Item, Listing, Rejected

NAME = re.compile(r"(?P<paper>.+)/(?P<image>p\d+_i\d+)_x(?P<x>\d{1,9})_y(?P<y>\d{1,9})\.png")
MARK, FOLDER = "harvest.json", "tiles"


def tiles(source: str, _ask: Ask) -> Listing:
    """`<paper>/p<page>_i<index>_x<X>_y<Y>.png`; the paper counts as the patient."""
    folder = existing(source)
    if folder.exists(MARK):
        folder = folder / FOLDER
    files, rejected = files_of(folder)
    items = []
    for file in files:
        match = NAME.fullmatch(file)
        if match is None:
            rejected.append(Rejected(file, "not named PAPER/pPAGE_iINDEX_xX_yY.png"))
            continue
        paper = match["paper"]
        slide = f"{paper}/{match['image']}"
        items.append(Item(file, None, paper, slide, int(match["x"]), int(match["y"])))
    return Listing((), items, rejected, folder=folder)


def is_harvest(source: str) -> bool:
    """Whether `raysearch harvest` made the folder."""
    return Folder(source).exists(MARK)
