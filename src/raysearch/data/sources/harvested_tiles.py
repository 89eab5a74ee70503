"""Lists the unlabeled tiles that `raysearch harvest` has extracted from papers."""

from __future__ import annotations

import re

from raysearch.data.files import Folder
from raysearch.data.sources.file_paths import list_files, require_folder
from raysearch.data.sources.listing import Item, Listing, Rejected, SourceOptions

FILE_PATH = re.compile(r"(?P<paper>.+)/(?P<image>p\d+_i\d+)_x(?P<x>\d{1,9})_y(?P<y>\d{1,9})\.png")
HARVEST_FILE, TILE_FOLDER = "harvest.json", "tiles"


def list_tiles(source: str, _options: SourceOptions) -> Listing:
    """List `<paper>/p<page>_i<index>_x<X>_y<Y>.png`; the paper counts as the patient."""
    folder = require_folder(source)
    if folder.exists(HARVEST_FILE):
        folder = folder / TILE_FOLDER
    files, rejected = list_files(folder)
    items = []
    for file in files:
        match = FILE_PATH.fullmatch(file)
        if match is None:
            rejected.append(Rejected(file, "not named PAPER/pPAGE_iINDEX_xX_yY.png"))
            continue
        paper = match["paper"]
        slide = f"{paper}/{match['image']}"
        items.append(Item(file, None, paper, slide, int(match["x"]), int(match["y"])))
    return Listing((), items, rejected, folder=folder)


def is_harvest(source: str) -> bool:
    """Whether `raysearch harvest` has written the folder."""
    return Folder(source).exists(HARVEST_FILE)
