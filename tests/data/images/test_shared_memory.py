"""Processes share slots of memory, with and without an anonymous file."""

import os
from pathlib import Path

import pytest

from raysearch.data.images.shared_memory import Slots
from raysearch.data.shards.sharding import write_shards


def test_without_memfd_a_temporary_file_is_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = write_shards("4:40:1", tmp_path / "one", "synthetic", workers=1)
    monkeypatch.delattr(os, "memfd_create")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert (
        write_shards("4:40:1", tmp_path / "two", "synthetic", workers=1).shards == expected.shards
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_a_slot_that_is_given_back_can_be_taken_again() -> None:
    with Slots(2, 10) as slots:
        first, second = slots.take(), slots.take()
        first.bytes()[:] = 7
        second.bytes()[:] = 8
        assert bytes(slots.view(first, 4)) == b"\7\7\7\7"
        assert bytes(slots.view(second, 10)) == b"\10" * 10
        with pytest.raises(IndexError):
            slots.take()
        slots.give_back(first)
        assert slots.take() == first


def test_a_later_pool_of_larger_slots_has_its_own_memory() -> None:
    for size in (10, 10_000):
        with Slots(1, size) as slots:
            slot = slots.take()
            slot.bytes()[:] = 7
            assert bytes(slots.view(slot, size)) == b"\x07" * size
