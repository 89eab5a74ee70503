import os
from pathlib import Path

import pytest

from raysearch.data.shards.sharding import write_shards
from raysearch.data.shards.shared_memory import Slots


def test_places_are_shared_where_there_is_no_nameless_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = write_shards("4:40:1", tmp_path / "one", "synthetic", workers=1)
    monkeypatch.delattr(os, "memfd_create")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert write_shards("4:40:1", tmp_path / "two", "synthetic", workers=1).shards == wanted.shards
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_a_place_that_is_given_back_can_be_taken_again() -> None:
    with Slots(2, 10) as slots:
        one, two = slots.take(), slots.take()
        one.bytes()[:] = 7
        two.bytes()[:] = 8
        assert bytes(slots.view(one, 4)) == b"\7\7\7\7"
        assert bytes(slots.view(two, 10)) == b"\10" * 10
        with pytest.raises(IndexError):
            slots.take()
        slots.give_back(one)
        assert slots.take() == one
