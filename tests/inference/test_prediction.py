"""Scoring a source into a folder: an interrupted run resumes after its last batch."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest

from raysearch.data.csv_files import read_csv
from raysearch.data.files import Folder
from raysearch.data.sources.listing import SourceOptions
from raysearch.data.step_progress import StepProgress, ignore_progress
from raysearch.inference.model_loading import load_model
from raysearch.inference.prediction import PARTIAL_SCORES, PredictionSummary, predict
from raysearch.inference.score_sources import open_source
from raysearch.search.study.study import Study

pytestmark = pytest.mark.filterwarnings("ignore")


def test_batches_that_were_scored_before_an_interrupt_are_not_scored_again(
    studies: str, image_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raysearch.inference.score_sources.BATCH_SIZE", 25)
    model, out = load_model("first", studies), Folder(tmp_path / "out")
    shape = model.artifact.shape
    source = open_source(
        str(image_folders / "idc"), None, "label", shape, SourceOptions(scratch=tmp_path)
    )

    reports: list[StepProgress] = []

    def interrupt(progress: StepProgress) -> None:
        reports.append(progress)
        if out.exists(f"{PARTIAL_SCORES}/000001.arrow"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(model, source, out, interrupt)
    assert not out.exists("scores.parquet")
    assert out.names(PARTIAL_SCORES) == ["000000.arrow", "000001.arrow", "request.json"]
    assert [progress.done for progress in reports] == [0, 25, 25, 50, 50]
    assert {(progress.total, progress.unit) for progress in reports} == {(60, "patches")}
    reports.clear()
    summary = predict(model, source, out, reports.append)
    assert summary == PredictionSummary(num_rows=60, num_rejected=1, num_new=10)
    assert (reports[0].done, reports[0].total) == (50, 60)
    assert reports[-1].step == "Writing the scores"
    assert not out.exists(PARTIAL_SCORES)
    summary = predict(model, source, out, ignore_progress)
    assert summary == PredictionSummary(num_rows=60, num_rejected=1, num_new=0)


def test_a_batch_without_an_image_that_can_be_decoded_has_no_rows(
    studies: str, image_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raysearch.inference.score_sources.BATCH_SIZE", 6)
    folder = tmp_path / "images"
    shutil.copytree(image_folders / "plain", folder)
    num_images = sum(path.is_file() for path in folder.rglob("*"))
    for number in range(12):
        (folder / "slide 1" / f"~{number:02d}.png").write_bytes(b"no image")
    model, out = load_model("first", studies), Folder(tmp_path / "out")
    options = SourceOptions(scratch=tmp_path)
    source = open_source(str(folder), None, "label", model.artifact.shape, options)
    summary = predict(model, source, out, ignore_progress)
    assert summary == PredictionSummary(num_images, 12, num_images)


@pytest.mark.parametrize("is_damaged", ["truncated", "other columns"])
def test_a_damaged_batch_is_scored_again(
    studies: str,
    image_folders: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_damaged: str,
) -> None:
    monkeypatch.setattr("raysearch.inference.score_sources.BATCH_SIZE", 25)
    model, out = load_model("first", studies), Folder(tmp_path / "out")
    options = SourceOptions(scratch=tmp_path)
    source = open_source(str(image_folders / "idc"), None, "label", model.artifact.shape, options)
    part = f"{PARTIAL_SCORES}/000000.arrow"

    def interrupt(_progress: StepProgress) -> None:
        if out.exists(part):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(model, source, out, interrupt)
    content = out.read(part)
    if is_damaged == "truncated":
        out.write(part, content[:-100])
    else:
        out.write(part, content.replace(b"probability", b"possibility"))
    assert predict(model, source, out, ignore_progress) == PredictionSummary(60, 1, 60)


def test_names_that_begin_as_formulas_are_neutralized_in_the_csv_files(
    studies: str, image_folders: Path, tmp_path: Path
) -> None:
    names = ("=1+1_0.png", "@a.png", "-1.png", "esc\x1b[31m.png", "a;=1.png")
    slide = tmp_path / "images" / "=cmd|'x'!A0"
    slide.mkdir(parents=True)
    images = sorted((image_folders / "plain" / "slide 1").iterdir())
    for name, image in zip(names, images, strict=False):
        shutil.copy(image, slide / name)
    (slide / "=broken.png").write_bytes(b"no image")
    model, out = load_model("first", studies), Folder(tmp_path / "out")
    options = SourceOptions(scratch=tmp_path)
    source = open_source(str(tmp_path / "images"), None, "label", model.artifact.shape, options)
    predict(model, source, out, ignore_progress)
    with (tmp_path / "out" / "scores.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert all(cell[:1] not in ("=", "+", "@", "\t", "\r") for row in rows for cell in row)
    assert all("\x1b" not in cell for row in rows for cell in row)
    assert all(float(row[header.index("score_positive")]) >= 0 for row in rows)
    table = read_csv(tmp_path / "out" / "scores.csv", "a score table")
    assert table.column("path") == [f"{slide.name}/{name}" for name in sorted(names)]
    assert set(table.column("patient")) == {slide.name}
    with (tmp_path / "out" / "rejected.csv").open(newline="") as file:
        assert next(csv.DictReader(file))["file"] == "'=cmd|'x'!A0/=broken.png"


def test_the_progress_of_slides_counts_slides(slide_study: Study, tmp_path: Path) -> None:
    model = load_model("first", str(slide_study.folder.local.parent))
    options = SourceOptions(scratch=tmp_path)
    source = open_source(slide_study.plan.data, None, "label", model.artifact.shape, options)
    reports: list[StepProgress] = []
    predict(model, source, Folder(tmp_path / "out"), reports.append)
    assert {(progress.total, progress.unit) for progress in reports} == {
        *((60, "slides"), (0, "slides"))
    }
