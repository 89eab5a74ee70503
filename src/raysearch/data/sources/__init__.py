"""The formats of image sources: each is one function and one entry in `SOURCES`.

A source lists its images without decoding them: the items to decode, and the rejected files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from raysearch.config.names import LABEL
from raysearch.data.files import Folder
from raysearch.data.sources.archive import is_archive, unpack
from raysearch.data.sources.breakhis import is_breakhis, list_breakhis
from raysearch.data.sources.class_folders import list_class_folders
from raysearch.data.sources.csv_table import is_csv, list_csv
from raysearch.data.sources.harvested_tiles import is_harvest, list_tiles
from raysearch.data.sources.idc import is_idc, list_idc
from raysearch.data.sources.listing import Item, Listing, SourceOptions
from raysearch.data.sources.pcam import is_pcam, list_pcam
from raysearch.data.sources.pcam_kaggle import is_pcam_kaggle, list_pcam_kaggle
from raysearch.data.sources.synthetic_source import is_synthetic, list_synthetic
from raysearch.errors import DataError


class Source(NamedTuple):
    """A format: the function that lists a source, and the test whether a layout is of the format.

    A format without a test is used only if the user names it.
    """

    list_items: Callable[[str, SourceOptions], Listing]
    is_layout_of: Callable[[str], bool] = lambda _source: False


SOURCES = {
    "synthetic": Source(list_synthetic, is_synthetic),
    "csv": Source(list_csv, is_csv),
    "pcam": Source(list_pcam, is_pcam),
    "pcam-kaggle": Source(list_pcam_kaggle, is_pcam_kaggle),
    "breakhis": Source(list_breakhis, is_breakhis),
    "idc": Source(list_idc, is_idc),
    "tiles": Source(list_tiles, is_harvest),
    "folder": Source(list_class_folders),
}


# The formats that use an option.
FORMATS_OF_OPTION = {
    "--patient": ("folder",),
    "--classes": ("folder", "csv"),
    "--magnification": ("breakhis",),
    "--official": ("pcam-kaggle",),
}
MAX_CLASSES = 1000


def detect_format(path: str, source: str) -> str:
    """Detect the format of a source by its layout.

    Args:
        path: Where the files are.
        source: What the user has named, for error messages; an archive is unpacked to `path`.

    Raises:
        DataError: If `path` does not exist, or its layout is of no format.
    """
    for name, format_ in SOURCES.items():
        if format_.is_layout_of(path):
            return name
    if not Folder(path).exists():
        raise DataError(f"{source}: no such file or folder; give the folder that holds the images")
    raise DataError(
        f"{source}: its layout is of no known format; name the format with --format, one of"
        f" {', '.join(SOURCES)}"
    )


def list_source(
    source: str, source_format: str | None, options: SourceOptions
) -> tuple[str, Listing]:
    """List the images of `source`.

    Args:
        source: A file, folder, archive or synthetic source.
        source_format: The name of its format; None to detect it.
        options: How to read the source.

    Returns:
        The name of the format, and the listing.

    Raises:
        DataError: If the format is unknown, the source is missing or empty, or two images at one
            position of one slide have different labels.
    """
    if source_format is not None and source_format not in SOURCES:
        raise DataError(f"--format {source_format!r} is unknown; one of {', '.join(SOURCES)}")
    path, rejected = unpack(source, options.scratch) if is_archive(source) else (source, [])
    source_format = source_format or detect_format(path, source)
    _reject_unused_options(source_format, options)
    listing = SOURCES[source_format].list_items(path, options)
    listing = replace(listing, rejected=[*listing.rejected, *rejected])
    if not listing.items and not listing.rejected:
        raise DataError(f"{source}: no files in it; give the folder that holds the images")
    for task, class_names in ((LABEL, listing.class_names), *listing.tasks):
        if len(class_names) > MAX_CLASSES:
            raise DataError(
                f"{source}: {len(class_names):,} classes in {task}, at most {MAX_CLASSES:,} are"
                " allowed; check that its column contains labels"
            )
    _reject_contradictory_labels(listing.items)
    return source_format, listing


def _reject_unused_options(source_format: str, options: SourceOptions) -> None:
    values = {
        "--patient": options.patient,
        "--classes": options.classes,
        "--magnification": options.magnifications,
        "--official": options.official,
    }
    for option, value in values.items():
        if value and source_format not in FORMATS_OF_OPTION[option]:
            raise DataError(
                f"{option}: has no effect with format {source_format}, only with"
                f" {', '.join(FORMATS_OF_OPTION[option])}; remove it"
            )
    if len(set(options.classes)) < len(options.classes) or "" in options.classes:
        raise DataError(f"--classes {','.join(options.classes)}: a name is empty or duplicate")


def _reject_contradictory_labels(items: Sequence[Item]) -> None:
    first_items: dict[tuple[str, str, int | None, int, int], Item] = {}
    for item in items:
        if item.x is None or item.y is None:
            continue
        position = (item.patient, item.slide, item.magnification, item.x, item.y)
        first = first_items.setdefault(position, item)
        if first.label != item.label:
            raise DataError(
                f"two labels for patient {item.patient} at x {item.x}, y {item.y}: {first.file} and"
                f" {item.file}; remove the wrong one"
            )


def modal_size(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The most frequent of `sizes`; of several, the largest."""
    counts = Counter(sizes)
    return max(counts, key=lambda size: (counts[size], size))
