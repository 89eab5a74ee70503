"""Renames and merges the classes of a source, so that the same images serve another task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from raysearch.data.csv_files import clean_name
from raysearch.data.sources.listing import Listing
from raysearch.errors import DataError

OPTION = "--class-map"


def parse_class_map(text: str) -> dict[str, str]:
    """Parse `adipose=benign,fibrous=benign` to a mapping from old to new names.

    Raises:
        DataError: If the text has another form, or names a class twice.
    """
    pairs = [clean_name(pair).partition("=") for pair in text.split(",") if pair]
    names = [(old_name.rstrip(), new_name.lstrip()) for old_name, _equals, new_name in pairs]
    if not all(old_name and new_name for old_name, new_name in names):
        raise DataError(f"{OPTION} {text}: cannot be read; write it as in 0=negative,1=positive")
    class_map = dict(names)
    if len(class_map) < len(names):
        raise DataError(f"{OPTION} {text}: a class is named twice; give each class one new name")
    return class_map


def map_classes(source: str, listing: Listing, class_map: Mapping[str, str]) -> Listing:
    """Give the classes of the default task of `listing` the names that `class_map` has for them.

    Classes with the same new name become one. The new classes are in the order in which the old
    ones first lead to them. A class that is not in `class_map` keeps its name.

    Args:
        source: The source, for error messages.
        listing: The images of the source.
        class_map: The new name of each old class.

    Raises:
        DataError: If `class_map` has a class that the source does not have.
    """
    check_class_map(source, class_map, listing.class_names)
    new_names = [class_map.get(name, name) for name in listing.class_names]
    class_names = tuple(dict.fromkeys(new_names))
    numbers = [class_names.index(name) for name in new_names]
    items = [
        item if item.label is None else item._replace(label=numbers[item.label])
        for item in listing.items
    ]
    return replace(listing, class_names=class_names, items=items)


def check_class_map(source: str, class_map: Mapping[str, str], class_names: Sequence[str]) -> None:
    """Raise a DataError if `class_map` has a class that is not among those of the source."""
    unknown = sorted(set(class_map) - set(class_names))
    if unknown:
        raise DataError(
            f"{OPTION} {unknown[0]}=...: not a class of {source}; its classes are"
            f" {', '.join(class_names) or 'none'}"
        )
