"""Makes shards of bags from files with features, which other tools have computed."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from raysearch.data.shards.shard_manifest import Manifest
from raysearch.data.shards.source_names import SourceNames
from raysearch.data.shards.unfinished_shards import sharding_request
from raysearch.data.sources.csv_table import is_csv
from raysearch.data.sources.feature_table import FEATURES_FORMAT, HEADER, list_features
from raysearch.data.sources.listing import Item, Listing, SourceOptions
from raysearch.data.step_progress import StepCallback, ignore_progress
from raysearch.errors import DataError
from raysearch.models.bags.bag_writer import (
    ROW_GROUP_BYTES,
    SHARD_BYTES,
    BagSource,
    write_bags,
)
from raysearch.models.bags.slide_feature_files import SlideFeatures, read_feature_file

# Slides are not resized.
NO_SIZE = (0, 0)


def shard_features(
    source: str,
    out: Path,
    options: SourceOptions,
    names: SourceNames,
    on_progress: StepCallback = ignore_progress,
) -> Manifest:
    """Write the slides of a CSV file to the new folder `out`, as shards of bags.

    After an error or an interruption, the finished shards remain for the next call with the same
    arguments and an unchanged source. If no shard is finished, nothing remains.

    Args:
        source: The CSV file, see `list_features`.
        out: The folder for the shards; it must not exist, or be empty.
        options: The root of the files, and the classes in order.
        names: The names that are written: those of the source, or pseudonyms.
        on_progress: Called with the number of slides so far.

    Raises:
        DataError: If the CSV file or the file of a slide cannot be used, or `out` cannot be
            written.
    """
    if not is_csv(source):
        raise DataError(
            f"{source}: format features takes a CSV file of slides, {HEADER}; name the folder of"
            " their files with --root"
        )
    listing = list_features(source, options)
    items = sorted(listing.items, key=names.order)
    bag_source = BagSource(
        format=FEATURES_FORMAT,
        address=source,
        class_names=listing.class_names,
        tasks=listing.tasks,
        warnings=listing.warnings,
    )
    settings = [FEATURES_FORMAT, names.key_id, ROW_GROUP_BYTES, SHARD_BYTES]
    request = sharding_request(source, listing, NO_SIZE, settings, out)
    read = partial(_features_from, listing, items)
    return write_bags(bag_source, items, read, out, names, on_progress, request)


def _features_from(listing: Listing, items: list[Item], start: int) -> Iterator[SlideFeatures]:
    """Read the features of the slides from the one with the number `start` on."""
    if listing.folder is None:
        raise TypeError("a CSV file has a folder")
    for item in items[start:]:
        yield read_feature_file(listing.folder.path(item.file))
