import math

import numpy as np
import pytest
import torch

from raysearch.models.dihedral import dihedral_transform, num_dihedral_transforms
from raysearch.training.batches import (
    balanced_order,
    epoch_order,
    mix_batch,
    normalized_batch,
    split_batches,
)


def test_the_order_of_an_epoch_depends_on_seed_fold_and_epoch_only() -> None:
    rows = np.arange(100, dtype=np.int64) * 3
    order = epoch_order(rows, 1, 2, 3)
    assert sorted(order.tolist()) == rows.tolist()
    assert (epoch_order(rows, 1, 2, 3) == order).all()
    for key in ((2, 2, 3), (1, 1, 3), (1, 2, 4)):
        assert (epoch_order(rows, *key) != order).any()


@pytest.mark.parametrize("num_rows", [10, 11, 90])
def test_balanced_order_has_equal_class_counts_and_repeats_rows_equally(num_rows: int) -> None:
    labels = np.array([0] * (num_rows - 3) + [1] * 3, np.int64)
    rows = np.arange(num_rows) + 5
    order = balanced_order(rows, labels, 1, 0, 2)
    assert len(order) == num_rows
    counts = np.bincount(order - 5, minlength=num_rows)
    assert abs(counts[:-3].sum() - counts[-3:].sum()) <= 1
    assert np.ptp(counts[-3:]) <= 1
    assert counts[:-3].max() == 1
    assert np.array_equal(order, balanced_order(rows, labels, 1, 0, 2))
    assert not np.array_equal(order, balanced_order(rows, labels, 1, 0, 3))


def test_a_single_last_row_joins_the_batch_before_it() -> None:
    rows = torch.arange(9)
    assert [len(batch) for batch in split_batches(rows, 4)] == [4, 5]
    assert [len(batch) for batch in split_batches(rows, 5)] == [5, 4]
    assert [len(batch) for batch in split_batches(rows, 2)] == [2, 2, 2, 3]
    assert torch.cat(split_batches(rows, 2)).tolist() == rows.tolist()


def test_mixup_blends_patches_and_targets_by_the_same_fraction() -> None:
    batch, rows = torch.randn(6, 3, 4, 4), torch.arange(10, 16)
    blended, ((own_rows, own_weight), (partner_rows, partner_weight)) = mix_batch(
        batch, rows, 0.3, torch.Generator().manual_seed(0)
    )
    assert torch.equal(own_rows, rows)
    assert sorted(partner_rows.tolist()) == rows.tolist() != partner_rows.tolist()
    assert (own_weight, partner_weight) == (0.3, 0.7)
    assert torch.allclose(blended, 0.3 * batch + 0.7 * batch[partner_rows - 10], atol=1e-6)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(6, 6), (4, 6)])
def test_each_patch_gets_its_random_transform_in_the_memory_format(
    memory_format: torch.memory_format, size: tuple[int, int]
) -> None:
    shape = (*size, 3)
    stored = torch.randint(256, (40, 3 * size[0] * size[1]), dtype=torch.uint8)
    transformed = normalized_batch(stored, shape, memory_format, torch.Generator().manual_seed(2))
    untransformed = normalized_batch(stored, shape, memory_format)
    reference = stored.view(-1, *shape).permute(0, 3, 1, 2).float() / 127.5 - 1
    assert torch.allclose(untransformed, reference, atol=1e-6)
    num_transforms = num_dihedral_transforms(*size)
    indices = torch.randint(num_transforms, (40,), generator=torch.Generator().manual_seed(2))
    expected = [
        dihedral_transform(patch[None], int(index))
        for patch, index in zip(untransformed, indices, strict=True)
    ]
    assert torch.equal(transformed, torch.cat(expected))
    assert transformed.is_contiguous(memory_format=memory_format)
    assert untransformed.is_contiguous(memory_format=memory_format)


def transformed_pixels(stored: torch.Tensor, seed: int) -> torch.Tensor:
    """Return square gray patches (B, H*W) after random transforms, as levels."""
    side = math.isqrt(stored.shape[1])
    generator = torch.Generator().manual_seed(seed)
    batch = normalized_batch(stored, (side, side, 1), dihedral_rng=generator)
    return torch.round((batch + 1) * 127.5)


def test_the_transforms_are_the_eight_symmetries_and_keep_the_order_of_patches() -> None:
    patch = torch.arange(16.0).view(1, 1, 4, 4)
    transformed = transformed_pixels(patch.view(1, 16).to(torch.uint8).expand(4000, 16), 0)
    images, counts = torch.unique(transformed.view(4000, 16), dim=0, return_counts=True)
    expected = {
        tuple(torch.rot90(base, quarter_turns, (2, 3)).flatten().tolist())
        for base in (patch, patch.flip(3))
        for quarter_turns in range(4)
    }
    assert {tuple(image.tolist()) for image in images} == expected
    assert int(counts.min()) > 400
    constant = torch.arange(64, dtype=torch.uint8).view(64, 1).expand(64, 16)
    assert torch.equal(transformed_pixels(constant, 1).view(64, 16), constant.float())
