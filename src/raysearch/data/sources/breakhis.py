"""BreakHis (Spanhol et al. 2016): 8 subtypes of breast tumours at 4 magnifications."""

from __future__ import annotations

import re

from raysearch.data.files import Folder
from raysearch.data.sources.file_paths import existing, files_of
from raysearch.data.sources.listing import Ask, Item, Listing, Rejected, Task
from raysearch.errors import DataError

NAME = re.compile(
    r"SOB_(?P<kind>[BM])_(?P<type>A|F|PT|TA|DC|LC|MC|PC)-(?P<year>\d\d)-(?P<number>\d+)"
    r"(?P<letters>[A-Z]*)-(?P<magnification>40|100|200|400)-(?P<sequence>\d{3})\.png"
)
SUBTYPES = {
    "A": "adenosis",
    "F": "fibroadenoma",
    "PT": "phyllodes_tumor",
    "TA": "tubular_adenoma",
    "DC": "ductal_carcinoma",
    "LC": "lobular_carcinoma",
    "MC": "mucinous_carcinoma",
    "PC": "papillary_carcinoma",
}
TYPES = tuple(SUBTYPES)
KINDS = {"B": "benign", "M": "malignant"}
BENIGN = 4
MAGNIFICATIONS = (40, 100, 200, 400)
NAMES = tuple(SUBTYPES.values())
TASKS = (
    Task("benign_subtype", NAMES[:BENIGN]),
    Task("malignant_subtype", NAMES[BENIGN:]),
    Task("subtype", NAMES),
    Task("magnification", tuple(f"{one}X" for one in MAGNIFICATIONS)),
)
SIZE = (700, 460)


def breakhis(source: str, ask: Ask) -> Listing:
    """`.../<benign|malignant>/SOB/<type>/<slide>/<MAG>X/SOB_<B|M>_<T>-<YY>-<ID>-<MAG>-<SEQ>.png`.

    The patient is the number without its letters: 22549AB, 22549CD and 22549G are one accession.
    Learned by default: benign or malignant.
    """
    unknown = set(ask.magnifications) - set(MAGNIFICATIONS)
    if unknown:
        raise DataError(
            f"--magnification {min(unknown)}: BreakHis has {', '.join(map(str, MAGNIFICATIONS))}"
        )
    wanted = ask.magnifications or MAGNIFICATIONS
    folder = existing(source)
    files, rejected = files_of(folder)
    found = [item_of(file) for file in files]
    items = [one for one in found if isinstance(one, Item) and one.magnification in wanted]
    rejected += [one for one in found if isinstance(one, Rejected)]
    return Listing(tuple(KINDS.values()), items, rejected, SIZE, folder=folder, tasks=TASKS)


def is_breakhis(source: str) -> bool:
    """Whether the tree begins as the archive does, from its top or from any folder of it."""
    folder = Folder(source)
    steps = ("BreaKHis_v1", "histology_slides", "breast")
    for start in range(len(steps) + 1):
        path = "/".join((*steps[start:], "benign", "SOB"))
        if folder.exists(path) or folder.exists(path.replace("benign", "malignant")):
            return True
    return False


def item_of(file: str) -> Item | Rejected:
    """What `file`, by its name below the tree's top, is; rejected where its parts disagree."""
    *folders, name = file.split("/")
    match = NAME.fullmatch(name)
    if match is None:
        return Rejected(file, "not named SOB_B|M_TYPE-YEAR-NUMBER-MAGNIFICATION-SEQUENCE.png")
    kind, subtype = match["kind"], match["type"]
    number = TYPES.index(subtype)
    if (kind == "B") != (number < BENIGN):
        return Rejected(file, f"type {subtype} is not {KINDS[kind]}")
    wrong = _other_folder(folders, kind, subtype, match["magnification"])
    if wrong:
        return Rejected(file, wrong)
    benign = number < BENIGN
    magnification = int(match["magnification"])
    return Item(
        file,
        "BM".index(kind),
        match["number"],
        f"SOB_{kind}_{subtype}-{match['year']}-{match['number']}{match['letters']}",
        magnification=magnification,
        others=(
            number if benign else None,
            None if benign else number - BENIGN,
            number,
            MAGNIFICATIONS.index(magnification),
        ),
    )


def _other_folder(folders: list[str], kind: str, subtype: str, magnification: str) -> str:
    """What a folder of the path says against the file's name; empty where all agree."""
    for folder in folders:
        if folder in KINDS.values() and folder != KINDS[kind]:
            return f"{KINDS[kind]} in its name, folder {folder}"
        if folder in NAMES and folder != SUBTYPES[subtype]:
            return f"{SUBTYPES[subtype]} in its name, folder {folder}"
        if re.fullmatch(r"\d+X", folder) and folder != f"{magnification}X":
            return f"magnification {magnification} in its name, folder {folder}"
    return ""
