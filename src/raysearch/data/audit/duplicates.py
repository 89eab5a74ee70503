"""The same pixels twice: as they are, turned or flipped, or nearly."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raysearch.data.audit.shard_reader import Images

Rows = NDArray[np.int64]
SAME, TURNED, NEAR = "same pixels", "turned or flipped", "nearly the same"
# Hashes that differ in at most three of 64 bits agree in one of four runs of 16.
RADIUS, BANDS, BAND_BITS = 3, 4, 16
# Grey levels, of 255, by which thumbnails of nearly the same patch may differ on average.
MAX_APART = 3.0
# Neighbours compared in a bucket, and pairs kept: more are of patches without structure.
MAX_NEIGHBOURS = 2000
MAX_PAIRS = 2_000_000


@dataclass(frozen=True)
class Group:
    """Rows, in rising order, that are duplicates of one another, and of what `kind`."""

    rows: tuple[int, ...]
    kind: str


@dataclass(frozen=True)
class NearPairs:
    """Pairs of rows, int64 (P, 2), and whether every bucket was searched to its end."""

    pairs: Rows
    complete: bool


def symmetries(image: Images) -> Iterator[Images]:
    """`image` (H, W, 3) in its eight flips and quarter turns."""
    for side in (image, image[:, ::-1]):
        for turns in range(4):
            yield np.rot90(side, turns)


def canonical_hash(image: Images) -> bytes:
    """The smallest of the SHA-256 of the eight symmetries of `image`: the same for all of them."""
    return min(
        hashlib.sha256(repr(one.shape).encode() + one.tobytes()).digest()
        for one in symmetries(image)
    )


def turned_candidates(hashes: NDArray[np.bytes_], keys: NDArray[np.uint64]) -> Rows:
    """One row of each `hashes` (N,) whose `keys` (N,) another row has, with other pixels.

    A patch and its turned copy have one histogram; so only these need the eight hashes.
    """
    _names, first = np.unique(hashes, return_index=True)
    _keys, which, times = np.unique(keys[first], return_inverse=True, return_counts=True)
    return np.sort(first[times[which] > 1]).astype(np.int64)


def exact_groups(hashes: NDArray[np.bytes_], turned: Mapping[int, bytes]) -> tuple[Group, ...]:
    """The groups of equal `hashes` (N,), joined by `turned`, the canonical hash of some rows."""
    _names, first, which = np.unique(hashes, return_index=True, return_inverse=True)
    leader = first[which]
    by_canonical: dict[bytes, int] = {}
    joined = {row: by_canonical.setdefault(turned[row], row) for row in sorted(turned)}
    leaders, times = np.unique(leader, return_counts=True)
    often = set(leaders[times > 1].tolist())
    often |= {row for pair in joined.items() if pair[0] != pair[1] for row in pair}
    found: dict[int, list[int]] = defaultdict(list)
    for row in np.flatnonzero(np.isin(leader, list(often))).tolist():
        own = int(leader[row])
        found[joined.get(own, own)].append(row)
    return tuple(
        Group(tuple(rows), SAME if len(set(leader[rows].tolist())) == 1 else TURNED)
        for _leader, rows in sorted(found.items())
    )


def near_pairs(
    dhashes: NDArray[np.uint64], thumbs: NDArray[np.uint8], searched: NDArray[np.bool_]
) -> NearPairs:
    """Pairs of the `searched` (N,) rows whose difference hashes and thumbnails are nearly the same.

    The difference hash compares neighbours in a small grey thumbnail (Krawetz, "Kind of Like That",
    2013). Rows that share a run of its bits are neighbours in one of four sorted lists, so the
    search takes N log N and the pairs that are compared.
    """
    rows = np.flatnonzero(searched).astype(np.int64)
    found, complete = [np.empty((0, 2), np.int64)], True
    for band in range(BANDS):
        shift = np.uint64(band * BAND_BITS)
        here = dhashes[rows]
        rolled = (here << shift) | (here >> (np.uint64(64) - shift)) if band else here
        order = np.argsort(rolled, kind="stable")
        pairs, whole = _within(rolled[order], rows[order], thumbs)
        complete &= whole
        found.append(pairs)
    pairs = np.unique(np.sort(np.concatenate(found), axis=1), axis=0)
    return NearPairs(pairs, complete)


def _within(values: NDArray[np.uint64], rows: Rows, thumbs: NDArray[np.uint8]) -> tuple[Rows, bool]:
    """The alike pairs of `rows` whose sorted `values` share their first bits and differ in few."""
    bucket = values >> np.uint64(64 - BAND_BITS)
    ends = np.searchsorted(bucket, bucket, "right")
    at = np.arange(len(values))
    found, kept = [np.empty((0, 2), np.int64)], 0
    for step in range(1, MAX_NEIGHBOURS + 1):
        at = at[at + step < ends[at]]
        if not len(at) or kept > MAX_PAIRS:
            return np.concatenate(found), not len(at)
        near = at[np.bitwise_count(values[at] ^ values[at + step]) <= RADIUS]
        left, right = (thumbs[rows[some]].astype(np.int16) for some in (near, near + step))
        near = near[np.abs(left - right).mean(axis=(1, 2)) <= MAX_APART]
        found.append(np.stack([rows[near], rows[near + step]], axis=1))
        kept += len(near)
    return np.concatenate(found), False


def near_groups(pairs: Rows, exact: Iterable[Group]) -> tuple[Group, ...]:
    """The rows that `pairs` (P, 2) link, of which one stands for each `exact` group."""
    leader = {row: group.rows[0] for group in exact for row in group.rows}
    parent: dict[int, int] = {}

    def root(row: int) -> int:
        while parent.setdefault(row, row) != row:
            parent[row] = row = parent[parent[row]]
        return row

    for left, right in pairs.tolist():
        one, other = root(leader.get(left, left)), root(leader.get(right, right))
        parent[max(one, other)] = min(one, other)
    found: dict[int, list[int]] = defaultdict(list)
    for row in sorted(parent):
        found[root(row)].append(row)
    return tuple(Group(tuple(rows), NEAR) for rows in found.values() if len(rows) > 1)
