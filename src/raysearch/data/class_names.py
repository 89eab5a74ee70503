"""Class names of files that somebody else wrote: how they are cleaned, and which are rejected."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from unicodedata import normalize

from raysearch.errors import DataError, shortened
from raysearch.printable_text import CONTROL_CHARACTERS

MAX_CLASSES = 1000
MAX_CLASS_NAME_LENGTH = 200
# In messages: so many names, each with so many characters.
MAX_NAMES, MAX_SHOWN_CHARACTERS = 5, 60
_SURROGATES = re.compile("[\ud800-\udfff]")


def clean_class_name(name: str) -> str:
    """Return a class name in composed Unicode, with single blanks between its words.

    Returns:
        The name; empty if it is blank.

    Raises:
        ValueError: If it has a control character or half of a surrogate pair, or is too long.
    """
    if len(name) > 4 * MAX_CLASS_NAME_LENGTH:  # before it is normalized
        raise ValueError(_too_long(name))
    cleaned = " ".join(normalize("NFC", name).split())
    if CONTROL_CHARACTERS.search(cleaned) or _SURROGATES.search(cleaned):
        raise ValueError(
            f"the class name {shortened(cleaned)!r} has a control character, or one that is not"
            " Unicode"
        )
    if len(cleaned) > MAX_CLASS_NAME_LENGTH:
        raise ValueError(_too_long(cleaned))
    return cleaned


def _too_long(name: str) -> str:
    return (
        f"the class name {shortened(name)!r}... has {len(name):,} characters, at most"
        f" {MAX_CLASS_NAME_LENGTH} are allowed"
    )


def check_class_names(
    source: str, class_names: Sequence[str], task: str, advice: str = "check that they are labels"
) -> None:
    """Check the names of the classes of a source.

    Args:
        source: What the user has named, for error messages.
        class_names: The names.
        task: What has these classes, such as the name of a column.
        advice: What to do if there are too many.

    Raises:
        DataError: If there are too many classes, or two differ only in upper and lower case.
    """
    if len(class_names) > MAX_CLASSES:
        raise DataError(
            f"{source}: {len(class_names):,} classes in {task}, at most {MAX_CLASSES:,} are"
            f" allowed; {advice}"
        )
    names_by_key: dict[str, str] = {}
    for name in class_names:
        first = names_by_key.setdefault(name.casefold(), name)
        if first != name:
            pair = [repr(shortened(text, MAX_SHOWN_CHARACTERS)) for text in (first, name)]
            raise DataError(
                f"{source}: the classes {' and '.join(pair)} of {task} differ only in upper and"
                " lower case; give both one name"
            )


def listed_names(names: Iterable[str]) -> str:
    """Return names for a message: the first ones, shortened; `none` if there are none."""
    shown = list(names)
    more = f" and {len(shown) - MAX_NAMES:,} more" if len(shown) > MAX_NAMES else ""
    listed = ", ".join(repr(shortened(name, MAX_SHOWN_CHARACTERS)) for name in shown[:MAX_NAMES])
    return f"{listed}{more}" or "none"
