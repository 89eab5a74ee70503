"""Reads the slides that a model scores: files with the features of their patches."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from raysearch.data.files import Folder
from raysearch.data.shards.bags import Bags
from raysearch.data.sources.csv_table import is_csv
from raysearch.data.sources.feature_table import (
    FEATURES_FORMAT,
    SUFFIXES,
    list_features,
    require_local,
)
from raysearch.data.sources.file_paths import list_files
from raysearch.data.sources.listing import Item, Rejected, SourceOptions
from raysearch.errors import DataError
from raysearch.inference.score_batches import Batch, label_names
from raysearch.models.bags.slide_feature_files import SlideFeatures, read_feature_file

# The slides of a batch: the features of one may take hundreds of megabytes.
BATCH_SIZE = 1


@dataclass(frozen=True)
class SlideSource:
    """Files with the features of slides.

    Attributes:
        address: The folder, or the CSV file.
        folder: The folder of the files.
        items: The slides.
        class_names: The classes that the items' labels index; empty without labels.
        num_features: The features of a patch that the model takes.
        rejected: The files whose names cannot be used.
    """

    address: str
    folder: Folder
    items: tuple[Item, ...]
    class_names: tuple[str, ...]
    num_features: int
    rejected: Sequence[Rejected] = ()

    @property
    def num_batches(self) -> int:
        """The number of batches."""
        return -(-len(self.items) // BATCH_SIZE)

    @property
    def fingerprint(self) -> str:
        """A hash over the files' names and labels."""
        content = [self.address, self.class_names, [list(item) for item in self.items]]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def num_rows(self, number: int) -> int:
        """The number of slides of the batch with that number."""
        return min(BATCH_SIZE, len(self.items) - number * BATCH_SIZE)

    def read(self, number: int) -> Batch:
        """Read the batch with that number."""
        items, slides, rejected = [], [], []
        for item in self.items[number * BATCH_SIZE : (number + 1) * BATCH_SIZE]:
            slide = self._read(item)
            if isinstance(slide, Rejected):
                rejected.append(slide)
            else:
                items.append(item)
                slides.append(slide)
        labels = label_names(items, self.class_names)
        bags = Bags.of([slide.values for slide in slides], self.num_features)
        return Batch(items, labels, bags, rejected, [slide.positions for slide in slides])

    def _read(self, item: Item) -> SlideFeatures | Rejected:
        path = self.folder.path(item.file)
        try:
            slide = read_feature_file(path)
        except DataError as error:
            return Rejected(item.file, str(error).removeprefix(f"{path}: "))
        width = slide.values.shape[1]
        if width != self.num_features:
            reason = f"{width:,} features, and the model takes {self.num_features:,}"
            return Rejected(item.file, reason)
        return slide


def open_slides(
    address: str, source_format: str | None, options: SourceOptions, num_features: int
) -> SlideSource:
    """Open the slides of a CSV file, or all files with features in a folder.

    Args:
        address: The path of the CSV file or the folder.
        source_format: The format that the user names; None for that of slides.
        options: How to read the CSV file.
        num_features: The features of a patch that the model takes.

    Raises:
        DataError: If there are no such files, or the format or an option is that of images.
    """
    if source_format not in (None, FEATURES_FORMAT):
        raise DataError(
            f"--format {source_format}: images, and the model takes features of slides; give a"
            f" folder of {', '.join(SUFFIXES)} files, or a CSV file of them"
        )
    for option, value in (("--patient", options.patient), ("--depth", options.depth)):
        if value is not None:
            raise DataError(f"{option}: has no effect with slides, only with images; remove it")
    if is_csv(address):
        listing = list_features(address, options)
        folder = listing.folder or Folder(".")
        if not listing.items:
            raise DataError(f"{address}: no slides in it; give one row for each slide")
        return SlideSource(address, folder, tuple(listing.items), listing.class_names, num_features)
    if options.root is not None:
        raise DataError("--root: has no effect with a folder, only with a CSV file; remove it")
    folder = require_local(Folder(address))
    names, rejected = list_files(folder) if folder.is_folder() else ([], [])
    files = sorted(name for name in names if PurePosixPath(name).suffix.lower() in SUFFIXES)
    if not files:
        raise DataError(
            f"{address}: no files of slides in it; give a folder of {', '.join(SUFFIXES)} files, a"
            " CSV file of them, or shards"
        )
    items = tuple(Item(name, None, name, PurePosixPath(name).stem) for name in files)
    return SlideSource(address, folder, items, (), num_features, tuple(rejected))
