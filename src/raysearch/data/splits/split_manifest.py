"""The split manifest of a set of shards: the held-out test groups and the folds of each scheme.

A split is computed once and stored with its hash, because another library version or another order
of rows would assign patients differently. All studies of the shards use one split manifest, so that
their scores are comparable and no test patient is ever in a training set.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from raysearch.data.files import Folder
from raysearch.data.parquet_files import read_parquet
from raysearch.data.splits.folds import Fold, class_counts_by_group
from raysearch.errors import DataError

FOLDER = "splits"
VERSION = 2
# The role of a group in a split, as the manifest's files name it.
HELD_OUT, TRAIN, VALIDATION = "held_out", "train", "validation"
RECREATE = "restore the file, or remove it and create a new one with `raysearch split`"


class _GroupRole(NamedTuple):
    """A row of the manifest's table; a held-out group has an empty scheme and fold -1."""

    scheme: str
    fold: int
    role: str
    group: str


@dataclass(frozen=True)
class _Header:
    """The content of the manifest's JSON file; its hash is not part of what is hashed."""

    version: int
    fingerprint: str
    task: str
    by: str
    seed: int
    counts: Mapping[str, tuple[int, ...]]
    leaks: tuple[str, ...]


@dataclass(frozen=True)
class _HashedHeader(_Header):
    hash: str


@dataclass(frozen=True)
class _Version:
    version: int


@dataclass(frozen=True)
class SplitManifest:
    """Every split scheme of the shards with `fingerprint`, for one task.

    Attributes:
        fingerprint: Hash of the shards.
        task: The task whose labels stratify the folds.
        by: The column of the groups, such as `patient`.
        seed: Seed of the random choices.
        held_out: The groups of the held-out test set; they are in no fold.
        schemes: Name of a split scheme, such as `3-fold`, to its folds.
        counts: `held_out` and `SCHEME/FOLD/train|validation` to the number of rows of each class;
            `check_split_rows` compares them with the rows that are read.
        leaks: One message for each patient on both sides of a fold that the user has allowed.
    """

    fingerprint: str
    task: str
    by: str
    seed: int
    held_out: tuple[str, ...]
    schemes: Mapping[str, tuple[Fold, ...]]
    counts: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    leaks: tuple[str, ...] = ()

    @property
    def hash(self) -> str:
        """The SHA-256, in hex, of the whole content."""
        content = [asdict(self._header()), self._group_roles()]
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def numbered_folds(self) -> Iterator[tuple[str, int, Fold]]:
        """Iterate over (scheme, number, fold) of all schemes."""
        for scheme, folds in self.schemes.items():
            for number, fold in enumerate(folds):
                yield scheme, number, fold

    def _header(self) -> _Header:
        counts = dict(sorted(self.counts.items()))
        return _Header(VERSION, self.fingerprint, self.task, self.by, self.seed, counts, self.leaks)

    def _group_roles(self) -> list[_GroupRole]:
        rows = [_GroupRole("", -1, HELD_OUT, group) for group in self.held_out]
        for scheme, folds in sorted(self.schemes.items()):
            for number, fold in enumerate(folds):
                rows += [_GroupRole(scheme, number, TRAIN, group) for group in fold.train]
                rows += [_GroupRole(scheme, number, VALIDATION, group) for group in fold.validation]
        return rows

    def write(self, folder: Folder, name: str) -> None:
        """Write `splits/NAME-HASH.parquet`, then `splits/NAME.json`, which names it by its hash."""
        columns = list(zip(*self._group_roles(), strict=True)) or [(), (), (), ()]
        table = pa.table(
            {
                "scheme": pa.array(columns[0], pa.string()),
                "fold": pa.array(columns[1], pa.int32()),
                "role": pa.array(columns[2], pa.string()),
                "group": pa.array(columns[3], pa.string()),
            }
        )
        content = io.BytesIO()
        pq.write_table(table, content, write_page_checksum=True)
        folder.write(_table_file(name, self.hash), content.getvalue())
        header = {**asdict(self._header()), "hash": self.hash}
        folder.write(_header_file(name), json.dumps(header, indent=1).encode())


def _header_file(name: str) -> str:
    return f"{FOLDER}/{name}.json"


def _table_file(name: str, split_manifest_hash: str) -> str:
    return f"{FOLDER}/{name}-{split_manifest_hash[:12]}.parquet"


def add_split_manifest(split_manifest: SplitManifest, folder: Folder, name: str) -> None:
    """Write `split_manifest` next to the shards in `folder`.

    If another process has written a manifest with this name in the meantime, its schemes are kept.

    Raises:
        DataError: If that manifest has another test set, or other folds in a common scheme.
    """
    if has_split_manifest(folder, name):
        stored = read_split_manifest(folder, name, split_manifest.fingerprint)
        _reject_conflict(split_manifest, stored, folder.path(_header_file(name)))
        split_manifest = replace(
            split_manifest,
            schemes={**stored.schemes, **split_manifest.schemes},
            counts={**stored.counts, **split_manifest.counts},
        )
    split_manifest.write(folder, name)


def _reject_conflict(new: SplitManifest, stored: SplitManifest, path: str) -> None:
    same_test_set = (new.task, new.by, new.seed, new.held_out) == (
        *(stored.task, stored.by, stored.seed, stored.held_out),
    )
    common = new.schemes.keys() & stored.schemes.keys()
    if not same_test_set or any(new.schemes[name] != stored.schemes[name] for name in common):
        raise DataError(
            f"{path}: another process has written it in the meantime, with another test set or"
            " other folds; start again to use that split manifest"
        )


def split_manifest_names(folder: Folder) -> list[str]:
    """The names of the split manifests next to the shards in `folder`."""
    return [name.removesuffix(".json") for name in folder.names(FOLDER) if name.endswith(".json")]


def has_split_manifest(folder: Folder, name: str) -> bool:
    """Whether the shards in `folder` have a split manifest `name`."""
    return folder.exists(_header_file(name))


def read_split_manifest(folder: Folder, name: str, fingerprint: str) -> SplitManifest:
    """Read the split manifest `name` of the shards in `folder`.

    Args:
        folder: The folder of the shards.
        name: The name of the split manifest.
        fingerprint: The fingerprint of the shards.

    Raises:
        DataError: If it does not exist, was changed, has another format version, or belongs to
            other shards.
    """
    path = folder.path(_header_file(name))
    if not has_split_manifest(folder, name):
        raise DataError(f"{path}: no such split manifest; create it with `raysearch split`")
    try:
        content = folder.read(_header_file(name))
        version = TypeAdapter(_Version).validate_json(content).version
    except (ValidationError, OSError):
        raise DataError(f"{path}: changed or damaged; {RECREATE}") from None
    if version != VERSION:
        raise DataError(
            f"{path}: format version {version}, and this raysearch reads {VERSION}; remove it and"
            " create a new one with `raysearch split`"
        )
    try:
        header = TypeAdapter(_HashedHeader).validate_json(content)
        split_manifest = _decode(header, folder.read(_table_file(name, header.hash)))
        unchanged = header.hash == split_manifest.hash
    except (ValueError, TypeError, KeyError, OSError, pa.ArrowException):
        unchanged = False
    if not unchanged:
        raise DataError(f"{path}: changed or damaged; {RECREATE}")
    if split_manifest.fingerprint != fingerprint:
        raise DataError(f"{path}: belongs to other shards than those next to it; {RECREATE}")
    return split_manifest


def _decode(header: _Header, content: bytes) -> SplitManifest:
    table = read_parquet(content)
    columns = [table.column(name).to_pylist() for name in _GroupRole._fields]
    held_out: list[str] = []
    groups: dict[str, dict[int, dict[str, list[str]]]] = {}
    for row in map(_GroupRole._make, zip(*columns, strict=True)):
        if row.role == HELD_OUT:
            held_out.append(row.group)
        else:
            folds = groups.setdefault(row.scheme, {})
            folds.setdefault(row.fold, {TRAIN: [], VALIDATION: []})[row.role].append(row.group)
    schemes = {
        scheme: tuple(
            Fold(tuple(folds[number][TRAIN]), tuple(folds[number][VALIDATION]))
            for number in range(len(folds))
        )
        for scheme, folds in groups.items()
    }
    return SplitManifest(
        fingerprint=header.fingerprint,
        task=header.task,
        by=header.by,
        seed=header.seed,
        held_out=tuple(held_out),
        schemes=schemes,
        counts=header.counts,
        leaks=header.leaks,
    )


def count_classes(
    groups: NDArray[np.str_],
    labels: NDArray[np.int64],
    num_classes: int,
    split_manifest: SplitManifest,
) -> dict[str, tuple[int, ...]]:
    """Count the rows of each class in the test set and in each fold.

    Args:
        groups: Group of each row, shape (N,).
        labels: Class of each row, shape (N,).
        num_classes: Number of classes.
        split_manifest: The groups of the test set and of the folds.

    Returns:
        The counts in the form of `SplitManifest.counts`.
    """
    names, counts = class_counts_by_group(groups, labels)
    padded = np.pad(counts, ((0, 0), (0, num_classes - counts.shape[1])))
    positions = {str(name): number for number, name in enumerate(names)}

    def count(selected: tuple[str, ...]) -> tuple[int, ...]:
        by_group = padded[[positions[name] for name in selected if name in positions]]
        return tuple(int(total) for total in by_group.sum(axis=0))

    result = {HELD_OUT: count(split_manifest.held_out)}
    for scheme, number, fold in split_manifest.numbered_folds():
        result[f"{scheme}/{number}/{TRAIN}"] = count(fold.train)
        result[f"{scheme}/{number}/{VALIDATION}"] = count(fold.validation)
    return result


def check_split_rows(split_manifest: SplitManifest, counts: Mapping[str, tuple[int, ...]]) -> None:
    """Check that no group is on both sides, and that the rows are those that were split.

    Args:
        split_manifest: The split manifest to check.
        counts: The result of `count_classes` for the rows that were read.

    Raises:
        DataError: If a group is on both sides of a fold, or the counts differ.
    """
    held_out = set(split_manifest.held_out)
    for scheme, number, fold in split_manifest.numbered_folds():
        train, validation = set(fold.train), set(fold.validation)
        overlap = (train & validation) | (held_out & (train | validation))
        if overlap:
            raise DataError(
                f"{split_manifest.by} {min(overlap)!r} is on both sides of {scheme} {number};"
                f" {RECREATE}"
            )
    for name, current in counts.items():
        stored = tuple(split_manifest.counts.get(name, ()))
        if stored != current:
            raise DataError(
                f"split manifest of {split_manifest.task}: {name} has {current} rows of each class,"
                f" but had {stored} when the split manifest was written; {RECREATE}"
            )
