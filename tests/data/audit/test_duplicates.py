"""Hashes find exact, rotated, flipped and near duplicates, and nothing else."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from raysearch.data.audit.duplicates import (
    DuplicateRows,
    canonical_hash,
    dihedral_transforms,
    exact_duplicates,
    near_duplicates,
    near_pairs,
    transform_candidates,
)
from raysearch.data.audit.patch_features import compute_block_features
from support.audit_sets import Images

small_images = arrays.arrays(np.uint8, st.tuples(st.integers(1, 5), st.integers(1, 5), st.just(3)))


@given(small_images)
def test_all_eight_transforms_have_the_same_canonical_and_histogram_hash(image: Images) -> None:
    transforms = list(dihedral_transforms(image))
    assert len({canonical_hash(transform) for transform in transforms}) == 1
    blocks = [
        compute_block_features(np.ascontiguousarray(transform)[None], np.array([False]))
        for transform in transforms
    ]
    assert len({int(block.histogram_hashes[0]) for block in blocks}) == 1


@given(small_images, small_images)
def test_only_transforms_of_an_image_have_its_canonical_hash(first: Images, second: Images) -> None:
    is_transform = any(
        np.array_equal(first, transform) for transform in dihedral_transforms(second)
    )
    assert (canonical_hash(first) == canonical_hash(second)) == is_transform


def test_groups_are_merged_through_their_rotated_copies() -> None:
    pixel_hashes = np.array([b"a", b"b", b"a", b"c", b"b", b"d"], "S32")
    histogram_hashes = np.array([1, 1, 1, 2, 1, 1], np.uint64)
    assert transform_candidates(pixel_hashes, histogram_hashes).tolist() == [0, 1, 5]
    groups = exact_duplicates(pixel_hashes, {0: b"x", 1: b"x", 5: b"y"})
    assert groups == (DuplicateRows((0, 1, 2, 4), "rotated or flipped"),)
    assert exact_duplicates(pixel_hashes, {}) == (
        DuplicateRows((0, 2), "identical"),
        DuplicateRows((1, 4), "identical"),
    )


@given(st.integers(0, 2**64 - 1), st.sets(st.integers(0, 63), max_size=5), st.integers(0, 50))
def test_hashes_that_differ_in_at_most_three_bits_are_near(
    value: int, flipped_bits: set[int], seed: int
) -> None:
    random_hashes = np.random.default_rng(seed).integers(0, 2**64, 30, np.uint64)
    flipped_value = value ^ sum(1 << bit for bit in flipped_bits)
    hashes = np.concatenate([random_hashes, np.array([value, flipped_value], np.uint64)])
    thumbnails = np.zeros((32, 8, 9), np.uint8)
    result = near_pairs(hashes, thumbnails, np.ones(32, np.bool_))
    assert ([30, 31] in result.pairs.tolist()) == (len(flipped_bits) <= 3)
    assert result.complete


def test_near_duplicates_contain_one_row_of_each_exact_group() -> None:
    exact_groups = (DuplicateRows((0, 1), "identical"),)
    pairs = np.array([[0, 1], [1, 2], [2, 3], [7, 8]])
    groups = near_duplicates(pairs, exact_groups)
    assert [group.rows for group in groups] == [(0, 2, 3), (7, 8)]
