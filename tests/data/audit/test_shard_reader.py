"""Rows are read by number, and padding is removed at two sides only."""

from pathlib import Path

import numpy as np
import pytest

from raysearch.data.audit.shard_reader import iter_row_groups, open_shards, remove_padding


def test_padding_is_removed_at_the_right_and_the_bottom_only() -> None:
    image = np.full((6, 6, 3), 255, np.uint8)
    assert remove_padding(image).shape == (1, 1, 3)
    image[2, 3] = 0
    assert remove_padding(image).shape == (3, 4, 3)


def test_row_groups_without_a_selected_row_are_not_decoded(
    shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = open_shards(str(shards), "label")
    all_pixels = np.concatenate([pixels for _rows, pixels in iter_row_groups(opened)])
    assert len(all_pixels) == 240
    ((rows, pixels),) = iter_row_groups(opened, np.array([5, 200]))
    assert rows.tolist() == [5, 200]
    assert np.array_equal(pixels, all_pixels[[5, 200]])
    monkeypatch.setattr("raysearch.data.audit.shard_reader.read_row_group_pixels", None)
    assert list(iter_row_groups(opened, np.array([], np.int64))) == []
