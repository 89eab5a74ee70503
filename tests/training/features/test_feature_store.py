"""Stored features: computed once, by any number of processes, and never others than computed."""

import multiprocessing
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from raysearch.training.failures import TrainingFailedError
from raysearch.training.features import feature_store
from raysearch.training.features.extraction import Extractor, PatchFeatures
from raysearch.training.features.feature_files import decode_features, encode_features
from raysearch.training.features.feature_request import FeatureRequest
from raysearch.training.features.feature_store import load_features
from raysearch.training.precision_settings import PrecisionSettings
from raysearch.training.training_data import TrainingData
from support.frozen_networks import frozen_config, pretrained_file
from support.recorded_extractions import Rows, record_extractions


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory, data: TrainingData) -> Path:
    """The file of the weights of a small network."""
    return pretrained_file(tmp_path_factory.mktemp("weights"), data)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, with chunks of 16 rows."""
    monkeypatch.setenv("RAYSEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(feature_store, "MAX_CHUNK_ROWS", 16)
    return tmp_path / "cache" / "features"


@pytest.fixture
def request_of_features(data: TrainingData, weights: Path) -> FeatureRequest:
    """The features of the small data."""
    return FeatureRequest(frozen_config(weights), data.pixels[:100], data.shape, "rows")


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[Rows]:
    """The rows that this process computes, from then on."""
    return record_extractions(monkeypatch)


def test_features_are_computed_once_and_mapped(
    request_of_features: FeatureRequest, computed: list[Rows], cache: Path
) -> None:
    progress: list[Rows] = []
    features = load_features(request_of_features, lambda *rows: progress.append(rows))
    assert features.values.shape[:2] == (100, 8)
    assert features.values.dtype == np.float16
    assert features.view_ms > 0
    assert computed == [(0, 1), *((start, min(start + 16, 100)) for start in range(0, 100, 16))]
    assert progress[-1] == (100, 100)
    assert [done for done, _all in progress] == sorted(done for done, _all in progress)
    computed.clear()
    assert load_features(request_of_features) is features
    assert not computed
    assert {path.suffix for path in cache.iterdir()} == {".json", ".lock", ".npy"}
    assert len(list(cache.iterdir())) == 3
    in_memory = load_features(replace(request_of_features, rows_id=""))
    assert np.array_equal(in_memory.values, features.values)


def test_what_changes_the_features_changes_their_key(request_of_features: FeatureRequest) -> None:
    first = request_of_features
    config = first.config

    def with_hparams(**hparams: str | int) -> FeatureRequest:
        return replace(first, config=replace(config, hparams={**config.hparams, **hparams}))

    same = [
        with_hparams(l2_penalty=1),
        with_hparams(classifier="mlp", head_hidden_units=5, head_hidden_layers=2),
        with_hparams(batch_size=8),
        replace(first, config=replace(config, seed=9)),
    ]
    others = [
        replace(first, rows_id="other"),
        replace(first, pixels=first.pixels[:50]),
        replace(first, config=replace(config, weights_hash="0" * 64)),
        replace(first, config=replace(config, precision_settings=PrecisionSettings("bfloat16"))),
        with_hparams(features="multi"),
        with_hparams(augment="none"),
        with_hparams(input_size=48),
        with_hparams(input_size=48, resize="bicubic"),
        with_hparams(normalization="imagenet"),
        with_hparams(preprocess="gaussian"),
        with_hparams(preprocess="gaussian", blur_sigma=2),
        with_hparams(width=8),
    ]
    assert {each.key for each in same} == {first.key}
    assert len({each.key for each in (first, *others)}) == len(others) + 1


def test_a_killed_process_leaves_what_it_has_computed(
    request_of_features: FeatureRequest, computed: list[Rows], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = Extractor.compute

    def interrupted(extractor: Extractor, start: int, stop: int) -> PatchFeatures:
        if start >= 48:
            raise KeyboardInterrupt
        return recorded(extractor, start, stop)

    monkeypatch.setattr(Extractor, "compute", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load_features(request_of_features)
    monkeypatch.setattr(Extractor, "compute", recorded)
    computed.clear()
    features = load_features(request_of_features)
    assert computed == [(48, 64), (64, 80), (80, 96), (96, 100)]
    in_memory = load_features(replace(request_of_features, rows_id=""))
    assert np.array_equal(features.values, in_memory.values)


def test_processes_share_the_work(
    request_of_features: FeatureRequest, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = multiprocessing.get_context("fork")
    counts = context.SimpleQueue()

    def run() -> None:
        torch.set_num_threads(1)
        compute, rows = Extractor.compute, []

        def recorded(extractor: Extractor, start: int, stop: int) -> PatchFeatures:
            rows.append((start, stop))
            return compute(extractor, start, stop)

        monkeypatch.setattr(Extractor, "compute", recorded)
        features = load_features(request_of_features)
        counts.put((rows, features.values.tobytes()))
        os._exit(0)

    processes = [context.Process(target=run) for _ in range(3)]
    for process in processes:
        process.start()
    results = [counts.get() for _process in processes]
    for process in processes:
        process.join(60)
    chunks = [rows for computed, _features in results for rows in computed if rows != (0, 1)]
    assert sorted(chunks) == [(start, min(start + 16, 100)) for start in range(0, 100, 16)]
    assert len({features for _computed, features in results}) == 1
    assert {path.suffix for path in cache.iterdir()} == {".json", ".lock", ".npy"}
    assert len(list(cache.iterdir())) == 3


@pytest.mark.parametrize("suffix", [".npy", ".json"])
def test_damaged_features_are_computed_again(
    request_of_features: FeatureRequest, cache: Path, suffix: str, computed: list[Rows]
) -> None:
    values = load_features(request_of_features).values.copy()
    path = next(cache.glob(f"*{suffix}"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    feature_store._MAPPED.clear()
    computed.clear()
    assert np.array_equal(load_features(request_of_features).values, values)
    assert len(computed) == 1 + 7


def test_a_damaged_chunk_is_computed_again(
    request_of_features: FeatureRequest,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    computed: list[Rows],
) -> None:
    assemble = feature_store._Entry._assemble

    def damaging(entry: feature_store._Entry) -> None:
        monkeypatch.setattr(feature_store._Entry, "_assemble", assemble)
        path = sorted(cache.glob("*.parquet"))[2]
        content = bytearray(path.read_bytes())
        content[200] ^= 1
        path.write_bytes(content)
        computed.clear()
        entry._assemble()

    monkeypatch.setattr(feature_store._Entry, "_assemble", damaging)
    features = load_features(request_of_features)
    assert computed == [(32, 48)]
    in_memory = load_features(replace(request_of_features, rows_id=""))
    assert np.array_equal(features.values, in_memory.values)


def test_a_killed_assembly_leaves_no_files(
    request_of_features: FeatureRequest, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_path: Path) -> str:
        raise KeyboardInterrupt

    cache.mkdir(parents=True, mode=0o700)
    cache.parent.chmod(0o700)
    key = request_of_features.key[:32]
    (cache / f".0123abcd-{key}.npy").write_bytes(b"of a killed process")
    monkeypatch.setattr(feature_store, "content_hash", interrupt)
    with pytest.raises(KeyboardInterrupt):
        load_features(request_of_features)
    monkeypatch.undo()
    monkeypatch.setenv("RAYSEARCH_CACHE", str(cache.parent))
    load_features(request_of_features)
    assert sorted(path.name for path in cache.iterdir()) == [
        f"{key}.json",
        f"{key}.lock",
        f"{key}.npy",
    ]


def test_features_beyond_16_bits_are_rejected(
    request_of_features: FeatureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "raysearch.training.features.extraction.as_stored",
        lambda features: (features * 1e9).half(),
    )
    with pytest.raises(TrainingFailedError, match="features of cnn are not finite in 16 bits"):
        load_features(request_of_features)


def test_encoded_features_are_decoded_as_they_were() -> None:
    values = np.random.default_rng(0).normal(size=(7, 2, 5)).astype(np.float16)
    decoded = decode_features(encode_features(PatchFeatures(values, 0.125)))
    assert np.array_equal(decoded.values, values)
    assert decoded.view_ms == 0.125
