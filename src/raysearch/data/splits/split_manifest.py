"""The split manifest of a set of shards: which groups are held-out, and which learn and judge in each fold.

A split is written down once, with its hash, and never made again: a library's next version, or
another order of rows, would move patients. One split manifest serves every study of a set, so that their
scores can be compared and no test patient is ever trained on.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from raysearch.data.files import Folder
from raysearch.data.shards.shard_manifest import MALFORMED
from raysearch.data.splits.folds import Fold
from raysearch.errors import DataError

FOLDER = "splits"
VERSION = 1
HELD_OUT, LEARN, JUDGE = "held_out", "learn", "judge"
AGAIN = "restore the file, or remove it and write another with `raysearch split`"


@dataclass(frozen=True)
class SplitManifest:
    """Every split of the shards with `fingerprint`, for one `task`, by the groups of one column.

    `by` is that column; `held_out` are the groups of the test set, which no fold has; `schemes` maps
    a name such as `3-fold` to its folds. `counts` maps `held_out` and `SCHEME/FOLD/learn|judge` to
    the number of rows of each class, to be found again whenever rows are mapped. `leaks` says what
    of it is not apart, where somebody allowed that.
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
        """The SHA-256, in hex, over all that it says."""
        text = json.dumps([self._head(), self._rows()], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def _head(self) -> dict[str, object]:
        return {
            "version": VERSION,
            "fingerprint": self.fingerprint,
            "task": self.task,
            "by": self.by,
            "seed": self.seed,
            "counts": {name: list(counts) for name, counts in sorted(self.counts.items())},
            "leaks": list(self.leaks),
        }

    def _rows(self) -> list[tuple[str, int, str, str]]:
        """(scheme, fold, role, group), in order; the held-out ones are of no scheme."""
        rows = [("", -1, HELD_OUT, group) for group in self.held_out]
        for scheme, folds in sorted(self.schemes.items()):
            for number, fold in enumerate(folds):
                rows += [(scheme, number, LEARN, group) for group in fold.learn]
                rows += [(scheme, number, JUDGE, group) for group in fold.judge]
        return rows

    def write(self, folder: Folder, name: str) -> None:
        """Write `splits/NAME-HASH.parquet`, then `splits/NAME.json`, which names it by its hash."""
        columns = list(zip(*self._rows(), strict=True)) or [(), (), (), ()]
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
        folder.write(_table_name(name, self.hash), content.getvalue())
        head = json.dumps({**self._head(), "hash": self.hash}, indent=1)
        folder.write(f"{FOLDER}/{name}.json", head.encode())


def _table_name(name: str, split_manifest_hash: str) -> str:
    return f"{FOLDER}/{name}-{split_manifest_hash[:12]}.parquet"


def add_split_manifest(split_manifest: SplitManifest, folder: Folder, name: str) -> None:
    """Write `split_manifest` beside the shards in `folder`; with the schemes of one that came meanwhile.

    DataError where that one is not the same test set and the same folds.
    """
    if has_split_manifest(folder, name):
        there = read_split_manifest(folder, name, split_manifest.fingerprint)
        both = there.schemes.keys() & split_manifest.schemes.keys()
        same = (there.task, there.by, there.seed, there.held_out) == (
            *(split_manifest.task, split_manifest.by, split_manifest.seed, split_manifest.held_out),
        )
        if not same or any(there.schemes[one] != split_manifest.schemes[one] for one in both):
            raise DataError(
                f"{folder.path(f'{FOLDER}/{name}.json')}: was written by somebody else meanwhile,"
                " with another test set or other folds; start again, to go by it"
            )
        split_manifest = replace(
            split_manifest,
            schemes={**there.schemes, **split_manifest.schemes},
            counts={**there.counts, **split_manifest.counts},
        )
    split_manifest.write(folder, name)


def split_manifest_names(folder: Folder) -> list[str]:
    """The names of the split manifests beside the shards in `folder`."""
    return [name[:-5] for name in folder.names(FOLDER) if name.endswith(".json")]


def has_split_manifest(folder: Folder, name: str) -> bool:
    """Whether the shards in `folder` have a split manifest `name`."""
    return folder.exists(f"{FOLDER}/{name}.json")


def read_split_manifest(folder: Folder, name: str, fingerprint: str) -> SplitManifest:
    """The split manifest `name` of the shards in `folder`, whose fingerprint is given.

    DataError where it is not there, was changed, or belongs to other shards.
    """
    place = folder.path(f"{FOLDER}/{name}.json")
    if not has_split_manifest(folder, name):
        raise DataError(f"{place}: no such split manifest; write it with `raysearch split`")
    try:
        head = json.loads(folder.read(f"{FOLDER}/{name}.json"))
        content = folder.read(_table_name(name, head["hash"]))
        table = pq.read_table(io.BytesIO(content), page_checksum_verification=True)
        columns = [table.column(one).to_pylist() for one in ("scheme", "fold", "role", "group")]
        split_manifest = _split_manifest(head, list(zip(*columns, strict=True)))
        good = head["version"] == VERSION and head["hash"] == split_manifest.hash
    except (*MALFORMED, OSError, pa.ArrowException):
        good = False
    if not good:
        raise DataError(f"{place}: changed, or of another version; {AGAIN}")
    if split_manifest.fingerprint != fingerprint:
        raise DataError(f"{place}: of other shards than those beside it; {AGAIN}")
    return split_manifest


def _split_manifest(
    head: Mapping[str, object], rows: list[tuple[str, int, str, str]]
) -> SplitManifest:
    held_out: list[str] = []
    found: dict[str, dict[int, dict[str, list[str]]]] = {}
    for scheme, fold, role, group in rows:
        if role == HELD_OUT:
            held_out.append(group)
        else:
            folds = found.setdefault(scheme, {})
            folds.setdefault(fold, {LEARN: [], JUDGE: []})[role].append(group)
    schemes = {
        scheme: tuple(
            Fold(tuple(folds[number][LEARN]), tuple(folds[number][JUDGE]))
            for number in range(len(folds))
        )
        for scheme, folds in found.items()
    }
    counts = head["counts"]
    leaks = head["leaks"]
    if not isinstance(counts, dict) or not isinstance(leaks, list):
        raise TypeError
    return SplitManifest(
        fingerprint=str(head["fingerprint"]),
        task=str(head["task"]),
        by=str(head["by"]),
        seed=int(str(head["seed"])),
        held_out=tuple(held_out),
        schemes=schemes,
        counts={str(name): tuple(map(int, one)) for name, one in counts.items()},
        leaks=tuple(map(str, leaks)),
    )


def count_classes(
    groups: NDArray[np.str_], labels: NDArray[np.int64], classes: int, split_manifest: SplitManifest
) -> dict[str, tuple[int, ...]]:
    """What `SplitManifest.counts` has to be for rows with these `groups` and `labels`, both (N,)."""
    names, owner = np.unique(groups, return_inverse=True)
    table = np.zeros((len(names), classes), np.int64)
    np.add.at(table, (owner, labels), 1)
    place = {str(name): number for number, name in enumerate(names)}

    def counted(some: tuple[str, ...]) -> tuple[int, ...]:
        rows = table[[place[one] for one in some if one in place]]
        return tuple(int(count) for count in rows.sum(axis=0))

    found = {HELD_OUT: counted(split_manifest.held_out)}
    for scheme, folds in split_manifest.schemes.items():
        for number, fold in enumerate(folds):
            found[f"{scheme}/{number}/{LEARN}"] = counted(fold.learn)
            found[f"{scheme}/{number}/{JUDGE}"] = counted(fold.judge)
    return found


def reject_unlike(split_manifest: SplitManifest, counts: Mapping[str, tuple[int, ...]]) -> None:
    """DataError where groups stand on both sides, or the rows are not those that were split."""
    held_out = set(split_manifest.held_out)
    for scheme, folds in split_manifest.schemes.items():
        for number, fold in enumerate(folds):
            both = (set(fold.learn) & set(fold.judge)) | (
                held_out & (set(fold.learn) | set(fold.judge))
            )
            if both:
                raise DataError(
                    f"{split_manifest.by} {min(both)!r} is on both sides of {scheme} {number}; {AGAIN}"
                )
    for name, count in counts.items():
        if tuple(split_manifest.counts.get(name, ())) != count:
            raise DataError(
                f"split manifest of {split_manifest.task}: {name} has {count} rows a class, and had"
                f" {tuple(split_manifest.counts.get(name, ()))} when it was written; {AGAIN}"
            )
