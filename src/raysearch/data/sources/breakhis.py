"""Lists BreakHis (Spanhol et al., 2016): 8 subtypes of breast tumors at 4 magnifications."""

from __future__ import annotations

import re

from raysearch.data.files import Folder
from raysearch.data.sources.file_paths import list_files, require_folder, visible_names
from raysearch.data.sources.listing import Item, Listing, Rejected, SourceOptions, Task, divide
from raysearch.errors import DataError

FILE_NAME = re.compile(
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
SUBTYPE_CODES = tuple(SUBTYPES)
SUBTYPE_NAMES = tuple(SUBTYPES.values())
KINDS = {"B": "benign", "M": "malignant"}
NUM_BENIGN = 4
MAGNIFICATIONS = (40, 100, 200, 400)
TASKS = (
    Task("benign_subtype", SUBTYPE_NAMES[:NUM_BENIGN]),
    Task("malignant_subtype", SUBTYPE_NAMES[NUM_BENIGN:]),
    Task("subtype", SUBTYPE_NAMES),
    Task("magnification", tuple(f"{magnification}X" for magnification in MAGNIFICATIONS)),
)
SIZE = (700, 460)
# The folders above `benign` and `malignant`, in lower case.
LEVELS = ("breakhis_v1", "histology_slides", "breast")
MAX_LEVELS = 6


def list_breakhis(source: str, options: SourceOptions) -> Listing:
    """List the images of BreakHis.

    Their paths are
    `.../<benign|malignant>/SOB/<type>/<slide>/<MAG>X/SOB_<B|M>_<T>-<YY>-<ID>-<MAG>-<SEQ>.png`.
    The patient is the ID without its letters: 22549AB, 22549CD and 22549G are of one patient. The
    classes of the default task are benign and malignant.
    """
    unknown = set(options.magnifications) - set(MAGNIFICATIONS)
    if unknown:
        raise DataError(
            f"--magnification {min(unknown)}: BreakHis has {', '.join(map(str, MAGNIFICATIONS))}"
        )
    magnifications = options.magnifications or MAGNIFICATIONS
    folder = require_folder(source)
    files, unreadable = list_files(folder)
    items, rejected = divide([parse_breakhis_path(file) for file in files])
    included = [item for item in items if item.magnification in magnifications]
    return Listing(
        tuple(KINDS.values()), included, unreadable + rejected, SIZE, folder=folder, tasks=TASKS
    )


def is_breakhis(source: str) -> bool:
    """Whether the folder is the archive's top folder, one of the next three levels, or contains it.

    Kaggle's archive has the top folder twice, one in the other, and a file `Folds.csv` beside it.
    """
    folder = Folder(source)
    for _level in range(MAX_LEVELS):
        if any(folder.exists(f"{kind}/SOB") for kind in KINDS.values()):
            return True
        names = [name for name in visible_names(folder) if name.lower() in LEVELS]
        if not names:
            return False
        folder = folder / names[0]
    return False


def parse_breakhis_path(file: str) -> Item | Rejected:
    """Parse the path of an image; it is rejected if its folders contradict its name."""
    *folders, name = file.split("/")
    match = FILE_NAME.fullmatch(name)
    if match is None:
        return Rejected(file, "not named SOB_B|M_TYPE-YEAR-NUMBER-MAGNIFICATION-SEQUENCE.png")
    kind, code = match["kind"], match["type"]
    subtype = SUBTYPE_CODES.index(code)
    is_benign = subtype < NUM_BENIGN
    if (kind == "B") != is_benign:
        return Rejected(file, f"type {code} is not {KINDS[kind]}")
    contradiction = _folder_contradiction(folders, kind, code, match["magnification"])
    if contradiction:
        return Rejected(file, contradiction)
    magnification = int(match["magnification"])
    return Item(
        file,
        "BM".index(kind),
        match["number"],
        f"SOB_{kind}_{code}-{match['year']}-{match['number']}{match['letters']}",
        magnification=magnification,
        task_labels=(
            subtype if is_benign else None,
            None if is_benign else subtype - NUM_BENIGN,
            subtype,
            MAGNIFICATIONS.index(magnification),
        ),
    )


def _folder_contradiction(folders: list[str], kind: str, code: str, magnification: str) -> str:
    """How a folder of the path contradicts the file's name; empty if none does."""
    for folder in folders:
        if folder in KINDS.values() and folder != KINDS[kind]:
            return f"{KINDS[kind]} in its name, folder {folder}"
        if folder in SUBTYPE_NAMES and folder != SUBTYPES[code]:
            return f"{SUBTYPES[code]} in its name, folder {folder}"
        if re.fullmatch(r"\d+X", folder) and folder != f"{magnification}X":
            return f"magnification {magnification} in its name, folder {folder}"
    return ""
