"""An evaluation that is interrupted continues after the patches that it has scored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from raysearch.inference import unfinished_scores
from raysearch.inference.model_loading import load_model, predict_proba
from raysearch.inference.unfinished_scores import UnfinishedScores

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> UnfinishedScores:
    """The scores of a set in an empty cache, which are kept after each batch."""
    monkeypatch.setenv("RAYSEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(unfinished_scores, "WRITE_INTERVAL_S", 0.0)
    return UnfinishedScores("model", "patches")


def test_an_interrupted_evaluation_continues_after_its_last_batch(
    studies: str, scores: UnfinishedScores
) -> None:
    model = load_model("first", studies)
    num_bytes = int(np.prod(model.artifact.shape))
    pixels = np.random.default_rng(0).integers(0, 256, (50, num_bytes), np.uint8)
    uninterrupted = predict_proba(model, pixels, batch_size=20)

    def interrupt(num_done: int, _num_patches: int) -> None:
        if num_done == 40:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_proba(model, pixels, interrupt, 20, scores)
    num_done: list[int] = []
    resumed = predict_proba(model, pixels, lambda done, _all: num_done.append(done), 20, scores)
    assert num_done == [40, 50]
    assert np.array_equal(resumed, uninterrupted)


def test_scores_that_are_damaged_or_of_another_set_or_size_are_not_used(
    scores: UnfinishedScores,
) -> None:
    assert scores.read((4, 2)) is None
    values = np.array([[0.25, 0.75], [0.5, 0.5]])
    scores.write_if_due(values)
    assert np.array_equal(np.asarray(scores.read((4, 2))), values)
    assert scores.read((1, 2)) is None
    assert scores.read((4, 3)) is None
    assert UnfinishedScores("model", "other patches").read((4, 2)) is None
    (path,) = scores.cache.folder.iterdir()
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    assert scores.read((4, 2)) is None
    scores.remove()
    assert not scores.cache.folder.exists()
