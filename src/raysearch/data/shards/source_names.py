"""The names of a source as shards store them: as they are, or as pseudonyms."""

from __future__ import annotations

import re
from dataclasses import dataclass

from raysearch.data.pseudonyms import FILE, PATIENT, SLIDE, SOURCE, PseudonymKey
from raysearch.data.sources.listing import Item, Rejected

QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
QUOTATION = re.compile(r"['\"].*['\"]", re.DOTALL)
WORD = re.compile(r"[^\W_]+")
HIDDEN = "..."
# Words of reasons that say nothing of a file, although a folder may have the same name.
COMMON_WORDS = frozenset(
    (
        *("class", "classes", "file", "files", "folder", "image", "images", "label", "labels"),
        *("line", "lines", "name", "named", "none", "not", "one", "patient", "patients", "slide"),
        *("split", "test", "train", "valid", "png", "jpg", "jpeg", "tif", "tiff"),
    )
)
MIN_LETTERS = 3


@dataclass(frozen=True)
class SourceNames:
    """Converts the names of a source to those that are written.

    Attributes:
        key: The key of the pseudonyms of patients, slides, files and the source; None to write the
            names as they are. Sites, positions and classes are always written as they are.
    """

    key: PseudonymKey | None = None

    @property
    def key_id(self) -> str:
        """The identifier of the key; empty without pseudonyms."""
        return "" if self.key is None else self.key.id

    def item(self, item: Item) -> Item:
        """Convert the patient, the slide and the file of an item."""
        if self.key is None:
            return item
        file = self.key.pseudonym(FILE, item.file)
        # A file whose patient is unknown is its own patient.
        is_unknown = item.patient == item.file
        return item._replace(
            file=file,
            patient=file if is_unknown else self.key.pseudonym(PATIENT, item.patient),
            slide=self.slide(item.slide),
        )

    def order(self, item: Item) -> tuple[str, str]:
        """The sort key of an item: its position must not reveal the order of the real names."""
        converted = self.item(item)
        return converted.patient, converted.file

    def tile_order(self, item: Item) -> tuple[str, str, int, int]:
        """The sort key of a tile: those of a slide follow each other, row by row."""
        patient = item.patient if self.key is None else self.key.pseudonym(PATIENT, item.patient)
        return patient, self.slide(item.slide), item.y or 0, item.x or 0

    def slide(self, name: str) -> str:
        """Convert the name of a slide."""
        return name if self.key is None else self.key.pseudonym(SLIDE, name)

    def rejected(self, rejected: Rejected) -> Rejected:
        """Convert the file of a rejected entry, and hide in its reason what is from the source."""
        if self.key is None:
            return rejected
        reason = QUOTED.sub(f"'{HIDDEN}'", rejected.reason)
        parts = {word for word in WORD.findall(rejected.file) if _is_name(word)}
        reason = WORD.sub(lambda word: HIDDEN if word[0] in parts else word[0], reason)
        return Rejected(self.key.pseudonym(FILE, rejected.file), reason)

    def warning(self, warning: str) -> str:
        """Hide everything between the first and the last quotation mark of a warning."""
        return warning if self.key is None else QUOTATION.sub(f"'{HIDDEN}'", warning)

    def source(self, source: str) -> str:
        """Convert the path or address of the source."""
        return source if self.key is None else self.key.pseudonym(SOURCE, source)


def _is_name(word: str) -> bool:
    """Whether a word of a path may be a part of a name or a number of a patient."""
    has_digit = any(character.isdigit() for character in word)
    return has_digit or (len(word) >= MIN_LETTERS and word.lower() not in COMMON_WORDS)
