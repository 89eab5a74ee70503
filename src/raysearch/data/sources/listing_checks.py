"""Checks what every source lists: its classes, its patients and its positions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from raysearch.config.names import LABEL
from raysearch.data.class_names import check_class_names
from raysearch.data.sources.listing import MISSING_WORDS, Item, Listing
from raysearch.errors import DataError


def checked_listing(source: str, source_format: str, listing: Listing) -> Listing:
    """Return `listing` with warnings of what is probably wrong in it.

    Args:
        source: What the user has named, for error messages.
        source_format: The name of its format.
        listing: The content of the source.

    Raises:
        DataError: If there are too many classes, two classes differ only in upper and lower case,
            or two images at one position of one slide have different labels.
    """
    for task, class_names in ((LABEL, listing.class_names), *listing.tasks):
        check_class_names(source, class_names, task, "check that its column contains labels")
    contradictions = list(_contradictions(listing.items))
    warnings = [*listing.warnings, *_missing_words(listing)]
    # The slides of class folders come from the names of files: two slides may have one name.
    if contradictions and source_format == "folder":
        first, second = contradictions[0]
        warnings.append(
            f"{len(contradictions):,} images lie at the position of another image of their slide,"
            f" with another label, such as {first.file!r} and {second.file!r}; check that both are"
            " right"
        )
    elif contradictions:
        _raise_contradiction(source_format, *contradictions[0])
    return replace(listing, warnings=tuple(warnings))


def _missing_words(listing: Listing) -> Iterator[str]:
    """Warnings of names that are words for a missing value, such as `nan`."""
    counts = Counter(item.patient for item in listing.items)
    for patient in sorted(counts):
        if patient.lower() in MISSING_WORDS:
            yield (
                f"{counts[patient]:,} images have the patient {patient!r}, and count as one"
                " patient; if it means that their patient is unknown, leave the patient blank"
            )
    for task, class_names in ((LABEL, listing.class_names), *listing.tasks):
        for name in class_names:
            if name.lower() in MISSING_WORDS:
                yield (
                    f"{name!r} is a class of {task}; if it means that the label is unknown, leave"
                    " the label blank"
                )


def _contradictions(items: Sequence[Item]) -> Iterator[tuple[Item, Item]]:
    """The pairs of images at one position of one slide that have different labels."""
    first_items: dict[tuple[str, str, int | None, int, int], Item] = {}
    for item in items:
        if item.x is None or item.y is None:
            continue
        position = (item.patient, item.slide, item.magnification, item.x, item.y)
        first = first_items.setdefault(position, item)
        if first.label != item.label:
            yield first, item


def _raise_contradiction(source_format: str, first: Item, second: Item) -> None:
    has_no_slide = source_format == "csv" and not first.slide
    slide_advice = "; if they are of two slides, add a column `slide`" if has_no_slide else ""
    raise DataError(
        f"two labels for patient {first.patient} at x {first.x}, y {first.y}: {first.file} and"
        f" {second.file}; remove the wrong one{slide_advice}"
    )
