"""Finds patches with identical, rotated or flipped, and near-identical pixels."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raysearch.data.audit.shard_reader import Images

RowArray = NDArray[np.int64]
IDENTICAL, TRANSFORMED, NEAR_IDENTICAL = "identical", "rotated or flipped", "near-identical"
# If two 64-bit hashes differ in at most three bits, at least one of their four bands is equal.
MAX_HASH_DISTANCE, NUM_BANDS, BAND_BITS = 3, 4, 16
# Largest mean difference of the thumbnails of near-identical patches, in gray levels of 0 to 255.
MAX_THUMBNAIL_DISTANCE = 3.0
# Below this standard deviation within channels, a patch has a single color. Two such patches can
# have identical pixels without showing the same tissue.
MIN_TEXTURE_STD = 1.0
# Limits of the comparisons in one band; only patches without structure exceed them.
MAX_NEIGHBORS = 2000
MAX_PAIRS = 2_000_000


@dataclass(frozen=True)
class DuplicateRows:
    """Row numbers, ascending, that are duplicates of one another, and the kind of duplicate."""

    rows: tuple[int, ...]
    kind: str


@dataclass(frozen=True)
class NearPairs:
    """Pairs of rows, shape (P, 2), and whether the search compared all candidates."""

    pairs: RowArray
    complete: bool


def is_single_color(image: Images) -> bool:
    """Return whether an image (H, W, 3) has a single color, as empty background has."""
    return bool(np.sqrt(image.var(axis=(0, 1)).mean()) < MIN_TEXTURE_STD)


def dihedral_transforms(image: Images) -> Iterator[Images]:
    """Iterate over the eight rotations and flips of an image (H, W, 3)."""
    for mirrored in (image, image[:, ::-1]):
        for quarter_turns in range(4):
            yield np.rot90(mirrored, quarter_turns)


def canonical_hash(image: Images) -> bytes:
    """Return the smallest SHA-256 of the eight rotations and flips, which all of them share."""
    return min(
        hashlib.sha256(repr(transform.shape).encode() + transform.tobytes()).digest()
        for transform in dihedral_transforms(image)
    )


def transform_candidates(
    pixel_hashes: NDArray[np.bytes_], histogram_hashes: NDArray[np.uint64]
) -> RowArray:
    """Return the rows that may be rotated or flipped copies of another row.

    A patch and its rotated copy have equal histograms. Only rows with equal histogram hashes and
    different pixel hashes need a canonical hash.

    Args:
        pixel_hashes: SHA-256 of the pixels, shape (N,).
        histogram_hashes: Shape (N,).

    Returns:
        Row numbers, ascending, one for each pixel hash.
    """
    _hashes, first = np.unique(pixel_hashes, return_index=True)
    _histograms, indices, counts = np.unique(
        histogram_hashes[first], return_inverse=True, return_counts=True
    )
    return np.sort(first[counts[indices] > 1]).astype(np.int64)


def exact_duplicates(
    pixel_hashes: NDArray[np.bytes_], canonical_hashes: Mapping[int, bytes]
) -> tuple[DuplicateRows, ...]:
    """Group the rows whose pixels are identical, possibly after a rotation or flip.

    Args:
        pixel_hashes: SHA-256 of the pixels, shape (N,).
        canonical_hashes: Canonical hashes of the rows of `transform_candidates`.
    """
    _hashes, first, indices = np.unique(pixel_hashes, return_index=True, return_inverse=True)
    representatives = first[indices]
    by_canonical: dict[bytes, int] = {}
    merged = {
        row: by_canonical.setdefault(canonical_hashes[row], row) for row in sorted(canonical_hashes)
    }
    unique_rows, counts = np.unique(representatives, return_counts=True)
    repeated = set(unique_rows[counts > 1].tolist())
    repeated |= {row for pair in merged.items() if pair[0] != pair[1] for row in pair}
    groups: dict[int, list[int]] = defaultdict(list)
    for row in np.flatnonzero(np.isin(representatives, list(repeated))).tolist():
        representative = int(representatives[row])
        groups[merged.get(representative, representative)].append(row)
    return tuple(
        DuplicateRows(
            tuple(rows),
            IDENTICAL if len(set(representatives[rows].tolist())) == 1 else TRANSFORMED,
        )
        for _representative, rows in sorted(groups.items())
    )


def near_pairs(
    difference_hashes: NDArray[np.uint64],
    thumbnails: NDArray[np.uint8],
    searched: NDArray[np.bool_],
    on_rows: Callable[[int, int], None] = lambda _done, _total: None,
) -> NearPairs:
    """Find the pairs of rows whose difference hashes and thumbnails are nearly equal.

    The difference hash compares neighboring pixels of a small gray thumbnail (Krawetz, "Kind of
    Like That", 2013). Rows that share a band of hash bits are neighbors in one of four sorted
    lists, so that the search takes O(N log N) and the number of compared pairs.

    Args:
        difference_hashes: Shape (N,).
        thumbnails: Shape (N, 8, 9).
        searched: Rows to compare, shape (N,).
        on_rows: Called with the number of compared rows, and of all; a band is a part of each row.
    """
    rows = np.flatnonzero(searched).astype(np.int64)
    pairs_by_band, complete = [np.empty((0, 2), np.int64)], True
    hashes = difference_hashes[rows]
    for band in range(NUM_BANDS):
        on_rows(band * len(rows) // NUM_BANDS, len(rows))
        shift = np.uint64(band * BAND_BITS)
        rotated = (hashes << shift) | (hashes >> (np.uint64(64) - shift)) if band else hashes
        order = np.argsort(rotated, kind="stable")
        pairs, band_complete = _near_pairs_in_band(rotated[order], rows[order], thumbnails)
        complete &= band_complete
        pairs_by_band.append(pairs)
    pairs = np.unique(np.sort(np.concatenate(pairs_by_band), axis=1), axis=0)
    return NearPairs(pairs, complete)


def _near_pairs_in_band(
    sorted_hashes: NDArray[np.uint64], rows: RowArray, thumbnails: NDArray[np.uint8]
) -> tuple[RowArray, bool]:
    """Find the near-identical pairs whose hashes share their first `BAND_BITS` bits.

    Returns:
        Pairs of rows, shape (P, 2), and whether all candidates were compared.
    """
    buckets = sorted_hashes >> np.uint64(64 - BAND_BITS)
    bucket_ends = np.searchsorted(buckets, buckets, "right")
    left = np.arange(len(sorted_hashes))
    pairs, num_pairs = [np.empty((0, 2), np.int64)], 0
    for step in range(1, MAX_NEIGHBORS + 1):
        left = left[left + step < bucket_ends[left]]
        if not len(left) or num_pairs > MAX_PAIRS:
            return np.concatenate(pairs), not len(left)
        distances = np.bitwise_count(sorted_hashes[left] ^ sorted_hashes[left + step])
        near = left[distances <= MAX_HASH_DISTANCE]
        differences = thumbnails[rows[near]].astype(np.int16) - thumbnails[rows[near + step]]
        near = near[np.abs(differences).mean(axis=(1, 2)) <= MAX_THUMBNAIL_DISTANCE]
        pairs.append(np.stack([rows[near], rows[near + step]], axis=1))
        num_pairs += len(near)
    return np.concatenate(pairs), False


def near_duplicates(
    pairs: RowArray, exact_groups: Iterable[DuplicateRows]
) -> tuple[DuplicateRows, ...]:
    """Return the connected components of near-identical pairs.

    Args:
        pairs: Pairs of rows, shape (P, 2).
        exact_groups: Exact duplicates; the first row of a group represents all of them.
    """
    representative = {row: group.rows[0] for group in exact_groups for row in group.rows}
    parent: dict[int, int] = {}

    def root(row: int) -> int:
        while parent.setdefault(row, row) != row:
            parent[row] = row = parent[parent[row]]
        return row

    for left, right in pairs.tolist():
        left_root = root(representative.get(left, left))
        right_root = root(representative.get(right, right))
        parent[max(left_root, right_root)] = min(left_root, right_root)
    components: dict[int, list[int]] = defaultdict(list)
    for row in sorted(parent):
        components[root(row)].append(row)
    return tuple(
        DuplicateRows(tuple(rows), NEAR_IDENTICAL) for rows in components.values() if len(rows) > 1
    )
