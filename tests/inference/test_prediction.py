"""Scoring a source into a folder: an interrupted run resumes after its last batch."""

from __future__ import annotations

from pathlib import Path

import pytest

from raysearch.data.files import Folder
from raysearch.inference.model_loading import load_model
from raysearch.inference.prediction import PARTIAL_SCORES, PredictionSummary, predict
from raysearch.inference.score_sources import open_source

pytestmark = pytest.mark.filterwarnings("ignore")


def test_batches_that_were_scored_before_an_interrupt_are_not_scored_again(
    studies: str, image_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raysearch.inference.score_sources.BATCH_SIZE", 25)
    model, out = load_model("first", studies), Folder(tmp_path / "out")
    shape = model.artifact.shape
    source = open_source(str(image_folders / "idc"), None, "label", shape, tmp_path)

    def interrupt(num_done: int, _num_batches: int) -> None:
        if num_done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(model, source, out, interrupt)
    assert not out.exists("scores.parquet")
    assert out.names(PARTIAL_SCORES) == ["000000.arrow", "000001.arrow", "request.json"]
    summary = predict(model, source, out, lambda _done, _all: None)
    assert summary == PredictionSummary(num_rows=60, num_rejected=1, num_new=10)
    assert not out.exists(PARTIAL_SCORES)
    summary = predict(model, source, out, lambda _done, _all: None)
    assert summary == PredictionSummary(num_rows=60, num_rejected=1, num_new=0)
