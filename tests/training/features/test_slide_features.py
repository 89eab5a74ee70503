"""Features of the patches of slides, computed by a frozen network."""

from pathlib import Path

import numpy as np
import pytest
import torch

from raysearch.config.hyperparameter_spec import Value
from raysearch.data.shards.bags import read_slides
from raysearch.data.shards.patches import load_patches
from raysearch.data.shards.rows import ALL
from raysearch.errors import DataError
from raysearch.models.architectures.networks import build_extractor
from raysearch.training.batches import normalized_batch
from raysearch.training.features.slide_features import SlideFeatureRequest, write_slide_features
from raysearch.training.training_data import TrainingData
from support.frozen_networks import pretrained_file
from support.recorded_training import HPARAMS
from support.slide_files import one_label_shards, slide_shards


def ignore_rows(_num_done: int, _num_rows: int) -> None:
    pass


def request_of(shards: Path, weights: Path, level: str) -> SlideFeatureRequest:
    network: dict[str, Value] = {name: HPARAMS[name] for name in ("width", "convolutions")}
    hparams = {"architecture": "cnn", "weights": str(weights), **network}
    return SlideFeatureRequest(str(shards), "label", level, hparams)


def test_a_patient_has_the_features_of_its_patches(
    tmp_path: Path,
    data: TrainingData,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAYSEARCH_CACHE", str(tmp_path / "cache"))
    weights = pretrained_file(tmp_path, data)
    tiles = one_label_shards(tmp_path / "tiles")
    request = request_of(tiles, weights, "patient")
    write_slide_features(request, tmp_path / "bags", ignore_rows)
    patches, bags = load_patches(str(tiles)), load_patches(str(tmp_path / "bags"))
    assert bags.slides.tolist() == sorted(set(patches.patients.tolist()))
    extractor = build_extractor("cnn", patches.shape, 2, request.hparams)
    for row in (0, len(bags.slides) - 1):
        rows = np.flatnonzero(patches.patients == bags.slides[row])
        batch = normalized_batch(torch.from_numpy(patches.pixels[rows]), patches.shape)
        with torch.inference_mode():
            expected = extractor(batch).numpy()
        assert np.allclose(bags.bag(row), expected, atol=5e-3)
        assert bags.labels[row] == patches.labels[rows[0]]
        (slide,) = read_slides(str(tmp_path / "bags"), ALL, [row]).values()
        assert slide.positions is not None
        assert slide.positions[:, 0].tolist() == patches.xs[rows].tolist()


def test_patches_of_a_slide_with_different_labels_are_rejected(
    shards: Path, tmp_path: Path, data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYSEARCH_CACHE", str(tmp_path / "cache"))
    weights = pretrained_file(tmp_path, data)
    with pytest.raises(DataError, match=r"patient '.*' has patches of .* and of .*; a label of"):
        write_slide_features(request_of(shards, weights, "patient"), tmp_path / "bags", ignore_rows)
    assert not (tmp_path / "bags").exists()
    slides = slide_shards(tmp_path / "made", 4)
    with pytest.raises(DataError, match="features already; give shards of patches"):
        write_slide_features(request_of(slides, weights, "slide"), tmp_path / "bags", ignore_rows)
