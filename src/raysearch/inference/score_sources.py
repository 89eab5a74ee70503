"""What is to be scored, a batch at a time: the rows of shards, or images as they lie."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from raysearch.data.audit.shard_reader import group_pixels
from raysearch.data.files import Folder
from raysearch.data.patches import shard_errors
from raysearch.data.shards.decoding import decode_files
from raysearch.data.shards.hdf5 import read_rows
from raysearch.data.shards.shard_manifest import NAME, label_column, read_manifest
from raysearch.data.shards.shared_memory import Slots
from raysearch.data.sources import SOURCES, list_source
from raysearch.data.sources.archive import is_archive
from raysearch.data.sources.listing import Ask, Item, Rejected
from raysearch.data.sources.unlabelled_images import images
from raysearch.errors import DataError

AT_ONCE = 1024


@dataclass(frozen=True)
class Batch:
    """Decoded patches, `pixels` uint8 (N, H*W*3), and of each what is known; `label` is its name.

    `rejected` are those that could not be decoded.
    """

    items: list[Item]
    labels: list[str | None]
    pixels: NDArray[np.uint8]
    rejected: list[Rejected]


class Source(Protocol):
    """Something that is scored batch by batch, each of which can be read again by its number."""

    @property
    def batches(self) -> int:
        """How many batches it has."""

    @property
    def fingerprint(self) -> str:
        """A hash over what it holds, as far as that shows without reading all of it."""

    @property
    def rejected(self) -> Sequence[Rejected]:
        """What was left out before anything was decoded."""

    def read(self, number: int) -> Batch:
        """Batch `number`."""


@dataclass(frozen=True)
class ImageSource:
    """Images at `place`, fitted to `size` (width, height) as `raysearch shard` fits them.

    They lie in `folder`, which is another where `place` is an archive.
    """

    place: str
    folder: Folder
    items: tuple[Item, ...]
    class_names: tuple[str, ...]
    size: tuple[int, int]
    rows: bool
    rejected: tuple[Rejected, ...]
    at_once: int

    @property
    def batches(self) -> int:
        """How many batches it has."""
        return -(-len(self.items) // self.at_once)

    @property
    def fingerprint(self) -> str:
        """A hash over the names of the files and what they tell."""
        told = [self.place, self.size, self.class_names, self.at_once, list(map(list, self.items))]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()

    def read(self, number: int) -> Batch:
        """Batch `number`, decoded."""
        some = self.items[number * self.at_once : (number + 1) * self.at_once]
        width = self.size[0] * self.size[1] * 3
        with Slots(1, len(some) * width) as slots:
            slot = slots.take()
            read = read_rows if self.rows else decode_files
            chunk = read(self.folder, [one.file for one in some], self.size, slot)
            pixels = np.array(slot.bytes().reshape(-1, width)[: len(chunk.kept)])
        kept = [some[place] for place in chunk.kept]
        labels = [None if one.label is None else self.class_names[one.label] for one in kept]
        rejected = [Rejected(some[place].file, reason) for place, reason in chunk.rejected]
        return Batch(kept, labels, pixels, rejected)


@dataclass(frozen=True)
class ShardSource:
    """The rows of the shards at `data`, labelled or not in `task`, a row group at a time."""

    data: str
    task: str
    groups: tuple[tuple[str, int], ...]
    class_names: tuple[str, ...]
    shape: tuple[int, int, int]
    fingerprint: str
    rejected: tuple[Rejected, ...] = ()

    @property
    def batches(self) -> int:
        """How many batches it has."""
        return len(self.groups)

    def read(self, number: int) -> Batch:
        """Row group `number`."""
        folder, (name, group) = Folder(self.data), self.groups[number]
        label = label_column(self.task)
        columns = ["source", label, "patient", "slide", "x", "y"]
        with shard_errors(folder, name), folder.open(name) as file:
            content = pq.ParquetFile(file, page_checksum_verification=True)
            table = content.read_row_group(group, columns=columns)
            pixels = group_pixels(content, group, self.shape)
        told = [table.column(one).to_pylist() for one in columns]
        items = [Item(*values) for values in zip(*told, strict=True)]
        labels = [None if one.label is None else self.class_names[one.label] for one in items]
        return Batch(items, labels, np.array(pixels).reshape(len(items), -1), [])


def source_of(
    place: str, form: str | None, task: str, shape: tuple[int, int, int], scratch: Path
) -> Source:
    """What is at `place`: shards, or images that are to be (H, W, 3) as `shape` says.

    Images are read by the format `form`, or the one that they show; where they show none, all below
    `place` are taken without labels. `scratch` is a folder for what is unpacked. DataError for
    shards of another size, and where there is no image.
    """
    folder = Folder(place)
    if form is None and folder.exists(NAME):
        return _shards(folder, task, shape)
    ask = Ask(scratch=scratch)
    known = form is not None or is_archive(place) or _recognised(place)
    listing = list_source(place, form, ask)[1] if known else images(place, ask)
    if listing.folder is None:
        raise DataError(f"{place}: draws its patches; shard them first, and give the shards")
    if not listing.items:
        raise DataError(f"{place}: no image in it; give the folder that holds the images")
    items = sorted(listing.items, key=lambda one: (one.patient, one.file))
    return ImageSource(
        place,
        listing.folder,
        tuple(items),
        listing.class_names,
        (shape[1], shape[0]),
        listing.rows,
        tuple(listing.rejected),
        AT_ONCE,
    )


def _recognised(place: str) -> bool:
    return any(one.recognise(place) for one in SOURCES.values())


def _shards(folder: Folder, task: str, shape: tuple[int, int, int]) -> ShardSource:
    manifest = read_manifest(folder)
    if manifest.shape != shape:
        raise DataError(
            f"{folder.address}: patches of {manifest.shape[1]}x{manifest.shape[0]}, and the model"
            f" takes {shape[1]}x{shape[0]}; shard them again with --size, or give the images"
        )
    groups = []
    for shard in manifest.shards:
        with shard_errors(folder, shard.name), folder.open(shard.name) as file:
            count = pq.ParquetFile(io.BytesIO(file.read())).num_row_groups
        groups += [(shard.name, group) for group in range(count)]
    names = manifest.classes_of(task)
    return ShardSource(folder.address, task, tuple(groups), names, shape, manifest.fingerprint)
