"""The machines of a cluster exchange chunks of features, and each has all of them at the end."""

from __future__ import annotations

import hashlib
import logging
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from raysearch.data.files import Folder
from raysearch.errors import StorageError
from raysearch.training.features import feature_store, shared_chunks
from raysearch.training.features.extraction import Extractor, PatchFeatures
from raysearch.training.features.feature_request import FeatureRequest
from raysearch.training.features.feature_store import load_features
from raysearch.training.features.shared_chunks import SharedChunks
from raysearch.training.training_data import TrainingData
from support.frozen_networks import frozen_config, pretrained_file
from support.recorded_extractions import Rows, record_extractions

CHUNKS = [(start, min(start + 16, 100)) for start in range(0, 100, 16)]
SIZE = (0, 1)  # the row whose features tell the size of a chunk


@pytest.fixture
def request_of_features(
    data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> FeatureRequest:
    """The features of 100 patches, in seven chunks."""
    monkeypatch.setattr(feature_store, "MAX_CHUNK_ROWS", 16)
    config = frozen_config(pretrained_file(tmp_path, data))
    return FeatureRequest(config, data.pixels[:100], data.shape, "rows")


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[Rows]:
    """The rows that are computed, from then on."""
    return record_extractions(monkeypatch)


@pytest.fixture(params=["{}", "memory://{}"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    """A folder that all machines can read and write, on a disk and on an object store."""
    return Folder(request.param.format(tmp_path / "shared"))


def use_machine(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYSEARCH_CACHE", str(tmp_path / name))


def test_each_worker_begins_with_a_section_of_its_own() -> None:
    chunks = [(start, start + 1) for start in range(11)]
    orders = [SharedChunks(Folder("x"), worker, 3).order(chunks) for worker in range(3)]
    assert all(sorted(order) == chunks for order in orders)
    assert [order[:3] for order in orders] == [chunks[0:3], chunks[3:6], chunks[7:10]]
    assert orders[1][4:] != sorted(orders[1][4:])
    assert SharedChunks(Folder("x"), 1, 3).order(chunks) == orders[1]


def test_machines_compute_each_chunk_once_and_have_all(
    request_of_features: FeatureRequest,
    folder: Folder,
    computed: list[Rows],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recorded = Extractor.compute

    def killed_after_its_section(extractor: Extractor, start: int, stop: int) -> PatchFeatures:
        if start >= 48:
            raise KeyboardInterrupt
        return recorded(extractor, start, stop)

    use_machine("first", tmp_path, monkeypatch)
    monkeypatch.setattr(Extractor, "compute", killed_after_its_section)
    with pytest.raises(KeyboardInterrupt):
        load_features(request_of_features, shared=SharedChunks(folder, 0, 2))
    assert computed == [SIZE, *CHUNKS[:3]]

    monkeypatch.setattr(Extractor, "compute", recorded)
    use_machine("second", tmp_path, monkeypatch)
    computed.clear()
    second = load_features(request_of_features, shared=SharedChunks(folder, 1, 2))
    assert computed == [SIZE, *CHUNKS[3:]]

    use_machine("first", tmp_path, monkeypatch)
    computed.clear()
    first = load_features(request_of_features, shared=SharedChunks(folder, 0, 2))
    assert computed == []
    use_machine("third", tmp_path, monkeypatch)
    third = load_features(request_of_features, shared=SharedChunks(folder, 2, 3))
    assert computed == [SIZE]
    in_memory = load_features(replace(request_of_features, rows_id=""))
    for features in (first, second, third):
        assert np.array_equal(features.values, in_memory.values)


def test_a_damaged_chunk_is_computed_again(
    request_of_features: FeatureRequest,
    folder: Folder,
    computed: list[Rows],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use_machine("first", tmp_path, monkeypatch)
    first = load_features(request_of_features, shared=SharedChunks(folder, 0, 1))
    name = folder.names()[2]
    content = bytearray(folder.read(name))
    content[200] ^= 1
    folder.write(name, bytes(content))
    use_machine("second", tmp_path, monkeypatch)
    computed.clear()
    second = load_features(request_of_features, shared=SharedChunks(folder, 0, 1))
    assert computed == [SIZE, CHUNKS[2]]
    assert np.array_equal(first.values, second.values)
    assert len(folder.names()) == len(CHUNKS)


def test_a_folder_that_cannot_be_used_leaves_all_chunks_to_the_worker(
    request_of_features: FeatureRequest,
    computed: list[Rows],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    use_machine("first", tmp_path, monkeypatch)
    (tmp_path / "file").write_text("no folder")
    with caplog.at_level(logging.WARNING):
        load_features(request_of_features, shared=SharedChunks(Folder(tmp_path / "file"), 0, 1))
    assert computed == [SIZE, *CHUNKS]
    assert caplog.text.count("features are not exchanged for a while") == 1


def test_a_file_that_another_account_may_write_is_left_out(
    request_of_features: FeatureRequest,
    computed: list[Rows],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = Folder(tmp_path / "shared")
    use_machine("first", tmp_path, monkeypatch)
    load_features(request_of_features, shared=SharedChunks(folder, 0, 1))
    names = folder.names()
    assert {(folder.local / name).stat().st_mode & 0o777 for name in names} == {0o600}
    (folder.local / names[0]).chmod(0o660)
    target = (folder.local / names[1]).rename(tmp_path / "elsewhere")
    (folder.local / names[1]).symlink_to(target)
    use_machine("second", tmp_path, monkeypatch)
    computed.clear()
    monkeypatch.setattr(shared_chunks, "PAUSE_S", 0.0)
    load_features(request_of_features, shared=SharedChunks(folder, 0, 1))
    assert computed == [SIZE, *CHUNKS[:2]]


def test_a_chunk_of_other_rows_is_computed_again(
    request_of_features: FeatureRequest,
    folder: Folder,
    computed: list[Rows],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use_machine("first", tmp_path, monkeypatch)
    first = load_features(request_of_features, shared=SharedChunks(folder, 0, 1))
    for number, content in enumerate((folder.read(folder.names()[-1]), b"no features")):
        name = folder.names()[number]
        folder.remove(name)
        stem = name.rpartition("-")[0]
        folder.write(f"{stem}-{hashlib.sha256(content).hexdigest()}.parquet", content, private=True)
    use_machine("second", tmp_path, monkeypatch)
    computed.clear()
    second = load_features(request_of_features, shared=SharedChunks(folder, 0, 1))
    assert computed == [SIZE, *CHUNKS[:2]]
    assert np.array_equal(first.values, second.values)


def test_an_error_of_the_folder_ends_the_exchange_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Folder(tmp_path / "shared")
    content = b"features"
    name = f"key-{hashlib.sha256(content).hexdigest()}.parquet"
    chunks = SharedChunks(folder, 0, 1)
    chunks.write(name, content)
    monkeypatch.setattr(shared_chunks, "LISTING_S", 0.0)
    monkeypatch.setattr(shared_chunks, "PAUSE_S", 0.3)

    def fail(_folder: Folder, _name: str = "") -> list[str]:
        raise StorageError("timeout")

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "names", fail)
        assert chunks.read("key-") is None
    until = time.monotonic() + 60
    while chunks.read("key-") is None:  # the pause is not over
        assert time.monotonic() < until
        time.sleep(0.05)
    assert chunks.read("key-") == (name, content)


def test_a_disk_that_is_almost_full_gets_no_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_chunks, "RESERVED_BYTES", 2**62)
    SharedChunks(Folder(tmp_path / "shared"), 0, 1).write("name", b"features")
    assert Folder(tmp_path / "shared").names() == []
