"""The formats of image sources: each is one function and one entry in `SOURCES`.

A source lists its images without decoding them: the items to decode, and the rejected files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from raysearch.config.custom_code import plugin_import_paths
from raysearch.config.hyperparameter_spec import is_import_path
from raysearch.data.files import Folder
from raysearch.data.slides.slide_options import SLIDE_OPTIONS
from raysearch.data.sources.archive import (
    NO_SPACE,
    TAR_SUFFIXES,
    ZIP_SUFFIXES,
    is_archive,
    unpack,
)
from raysearch.data.sources.breakhis import is_breakhis, list_breakhis
from raysearch.data.sources.class_folders import list_class_folders
from raysearch.data.sources.class_map import map_classes
from raysearch.data.sources.csv_table import is_csv, list_csv
from raysearch.data.sources.custom_source import list_custom
from raysearch.data.sources.exclusion import leave_out
from raysearch.data.sources.harvested_tiles import is_harvest, list_tiles
from raysearch.data.sources.idc import is_idc, list_idc
from raysearch.data.sources.listing import Listing, Rejected, SourceOptions
from raysearch.data.sources.listing_checks import checked_listing
from raysearch.data.sources.pcam import is_pcam, list_pcam
from raysearch.data.sources.pcam_kaggle import is_pcam_kaggle, list_pcam_kaggle
from raysearch.data.sources.slide_files import is_slides, list_slides
from raysearch.data.sources.synthetic_source import is_synthetic, list_synthetic
from raysearch.data.sources.unlabeled_images import list_unlabeled_images
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
    "slides": Source(list_slides, is_slides),
    "folder": Source(list_class_folders),
}


SLIDES = "slides"
# In place of the import path of a function of the user's, and the prefix of its entry points.
CUSTOM, SOURCE = "MODULE:FUNCTION", "source"
# The formats that use an option.
FORMATS_OF_OPTION = {
    "--patient": ("folder", SLIDES),
    "--classes": ("folder", "csv", SLIDES, CUSTOM),
    "--magnification": ("breakhis",),
    "--official": ("pcam-kaggle",),
    "--root": ("csv",),
    "--class-map": ("folder", "csv", "idc", "breakhis", "pcam", "pcam-kaggle", SLIDES, CUSTOM),
    "--center": ("folder", "csv", "idc", "breakhis", "synthetic", SLIDES, CUSTOM),
    **dict.fromkeys(SLIDE_OPTIONS, (SLIDES,)),
}
# The name of the format of images without labels, which only a prediction reads.
UNLABELED = "unlabeled"


def detect_format(path: str, source: str) -> str:
    """Detect the format of a source by its layout.

    Args:
        path: Where the files are.
        source: What the user has named, for error messages; an archive is unpacked to `path`.

    Raises:
        DataError: If `path` does not exist, or its layout is of no format.
    """
    source_format = _layout_of(path)
    if source_format is not None:
        return source_format
    folder = Folder(path)
    if not folder.exists():
        raise DataError(f"{source}: no such file or folder; give the folder that holds the images")
    if not folder.is_folder():
        raise DataError(
            f"{source}: no folder, no CSV file, and no archive that can be read"
            f" ({', '.join((*ZIP_SUFFIXES, *TAR_SUFFIXES))}); give the folder that holds the images"
        )
    raise DataError(
        f"{source}: its layout is of no known format; name the format with --format, one of"
        f" {', '.join(SOURCES)}"
    )


def _layout_of(path: str) -> str | None:
    return next((name for name, format_ in SOURCES.items() if format_.is_layout_of(path)), None)


def is_slide_source(source: str, source_format: str | None) -> bool:
    """Return whether `source` is of slides, by the format that the user names or by its layout."""
    if source_format is not None:
        return source_format == SLIDES
    return not is_archive(source) and _layout_of(source) == SLIDES


def list_source(
    source: str,
    source_format: str | None,
    options: SourceOptions,
    *,
    are_labels_required: bool = True,
) -> tuple[str, Listing]:
    """List the images of `source`.

    Args:
        source: A file, folder, archive or synthetic source.
        source_format: The name of its format; None to detect it.
        options: How to read the source.
        are_labels_required: If False and no format is detected, all images are listed without
            labels, under the format `UNLABELED`.

    Returns:
        The name of the format, and the listing.

    Raises:
        DataError: If the format is unknown, the source is missing, empty or cannot be read, a patch
            to leave out is not in it, or two images at one position of one slide have different
            labels.
    """
    if source_format is not None:
        if source_format not in SOURCES:
            source_format = plugin_import_paths(SOURCE).get(source_format, source_format)
        if source_format not in SOURCES and not is_import_path(source_format):
            raise DataError(
                f"--format {source_format!r} is unknown; one of {', '.join(SOURCES)}, or"
                " MODULE:FUNCTION"
            )
    try:
        path, rejected = _unpacked(source, source_format, options.scratch)
        source_format = source_format or _layout_of(path)
        if source_format is None and not are_labels_required:
            source_format, listing = UNLABELED, list_unlabeled_images(path, options)
        else:
            source_format = source_format or detect_format(path, source)
            _reject_unused_options(source_format, options)
            listing = _source(source_format).list_items(path, options)
    except OSError as error:
        if error.errno in NO_SPACE:  # on the disk of the unpacked files
            place = error.filename or str(options.scratch)
            raise OSError(error.errno, error.strerror, place) from None
        reason = error.strerror or error
        raise DataError(
            f"{source}: cannot be read ({error.filename or source}: {reason}); check the file and"
            " its permissions"
        ) from None
    listing = replace(listing, rejected=[*listing.rejected, *rejected])
    if not listing.items and not listing.rejected:
        raise DataError(f"{source}: no files in it; give the folder that holds the images")
    if options.class_map and listing.slides is None:  # the tiles of merged classes are their own
        listing = map_classes(source, listing, options.class_map)
    if options.exclusion is not None:
        listing = leave_out(source, listing, options.exclusion)
    return source_format, checked_listing(source, source_format, listing)


def _source(source_format: str) -> Source:
    """Return a format by its name, or the import path of a function of the user's."""
    if is_import_path(source_format):
        return Source(partial(list_custom, source_format))
    return SOURCES[source_format]


def _unpacked(
    source: str, source_format: str | None, scratch: Path
) -> tuple[str, Sequence[Rejected]]:
    """The folder with the files of `source`, which may be an archive, and the rejected ones.

    If an archive contains one folder only, that is the folder, unless its files would then be in
    no folder of a class or a slide.
    """
    if not is_archive(source):
        return source, ()
    folder, rejected = unpack(source, scratch)
    formats = [_source(source_format)] if source_format else list(SOURCES.values())
    entries = list(folder.iterdir())
    if len(entries) > 1 or any(format_.is_layout_of(str(folder)) for format_ in formats):
        return str(folder), rejected
    is_top = any(format_.is_layout_of(str(entries[0])) for format_ in formats) or (
        entries[0].is_dir() and any(path.is_dir() for path in entries[0].iterdir())
    )
    return str(entries[0] if is_top else folder), rejected


def _reject_unused_options(source_format: str, options: SourceOptions) -> None:
    values = {
        "--patient": options.patient,
        "--classes": options.classes,
        "--magnification": options.magnifications,
        "--official": options.official,
        "--root": options.root,
        "--class-map": options.class_map,
        "--center": options.center,
        **{option: name in options.slides.named for option, name in SLIDE_OPTIONS.items()},
    }
    for option, value in values.items():
        name = CUSTOM if is_import_path(source_format) else source_format
        if value and name not in FORMATS_OF_OPTION[option]:
            raise DataError(
                f"{option}: has no effect with format {source_format}, only with"
                f" {', '.join(FORMATS_OF_OPTION[option])}; remove it"
            )
    if len(set(options.classes)) < len(options.classes) or "" in options.classes:
        raise DataError(f"--classes {','.join(options.classes)}: a name is empty or duplicate")


def modal_size(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The most frequent of `sizes`; of several, the largest."""
    counts = Counter(sizes)
    return max(counts, key=lambda size: (counts[size], size))
