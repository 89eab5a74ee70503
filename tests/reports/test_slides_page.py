"""The page with the maps of all slides of the held-out test set."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raysearch.cli import run
from raysearch.data.files import Folder
from raysearch.data.pseudonyms import DisplayedNames
from raysearch.data.shards.shard_manifest import read_manifest
from raysearch.data.shards.sharding import write_shards
from raysearch.data.slides.slide_options import SlideOptions
from raysearch.data.sources.listing import SourceOptions
from raysearch.data.splits.split_manifest import read_split_manifest
from raysearch.reports.slides_page import slides_page
from raysearch.reports.study_report import study_report
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.testing.test_results import HELD_OUT, read_evaluation, read_evaluation_scores
from support.champion_studies import HPARAMS, study_with_champion
from support.scanned_slides import paint, write_polygons, write_tiff
from support.slide_cohort import TISSUE, tumor_of

pytestmark = pytest.mark.filterwarnings("ignore")
SIZE = (1600, 1200)


def write_study(folder: Path) -> Path:
    """Write a study of four patients with five slides, of whom two are held out."""
    slides, annotations = folder / "slides", folder / "annotations"
    slides.mkdir()
    lines = ["slide,patient"]
    for number in range(5):
        name = f"case{number}"
        tumor = tumor_of(number % 3)
        write_tiff(slides / f"{name}.tiff", paint(SIZE, [TISSUE], [tumor], number), 0.25)
        write_polygons(annotations / f"{name}.geojson", [("Stroma", TISSUE), ("Tumor", tumor)])
        lines.append(f"{name},person{max(1, number)}")
    (folder / "slides.csv").write_text("\n".join(lines))
    options = SlideOptions(
        mpp=1.0, size=(24, 24), annotations=str(annotations), labels=str(folder / "slides.csv")
    )
    write_shards(
        str(slides), folder / "tiles", "slides", options=SourceOptions(slides=options), workers=1
    )
    assert run(["split", str(folder / "tiles"), "--test", "0.5", "--folds", "2"]) == 0
    hparams = {**HPARAMS, "learning_rate": 0.01, "batch_size": 16}
    study_with_champion(folder / "tiles", folder / "studies" / "first", hparams)
    return folder / "tiles"


def test_the_page_has_the_maps_of_each_slide_of_the_test_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/runs.db")
    tiles = write_study(tmp_path)
    folder = StudyFolder(str(tmp_path / "studies" / "first"))
    assert slides_page(study_report(folder), DisplayedNames(None)) is None
    assert run(["test", "first"]) == 0
    capsys.readouterr()
    assert run(["report", "first", "--out", "a b.html", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["slides"] == "a b-slides.html"
    assert 'href="a%20b-slides.html"' in Path("a b.html").read_text()
    page = Path("a b-slides.html").read_text()
    # The pages have pseudonyms.
    manifest = read_manifest(Folder(tiles))
    sections = re.findall(r'<section class="card" id="(slide-\d)">(.*?)</section>', page, re.DOTALL)
    held_out = read_split_manifest(Folder(tiles), "label", manifest.fingerprint).held_out
    num_slides = 3 if "person1" in held_out else 2
    anchors = [f"slide-{number + 1}" for number in range(num_slides)]
    assert [anchor for anchor, _text in sections] == anchors
    assert re.findall(r'href="#(slide-\d)"', page) == [anchor for anchor, _text in sections]
    assert "case" not in page
    assert "person" not in page
    record = read_evaluation(folder, HELD_OUT)
    assert record is not None
    scored = read_evaluation_scores(folder, record)
    num_errors = int((scored.predicted != scored.labels).sum())
    counts = [int(re.search(r"; (\d+) errors?", text)[1]) for _anchor, text in sections]  # type: ignore[index]
    assert sum(counts) == num_errors
    assert counts == sorted(counts, reverse=True)
    num_rows = [int(re.search(r"<p>(\d+) patch", text)[1]) for _anchor, text in sections]  # type: ignore[index]
    assert sum(num_rows) == len(scored.labels)
    for _anchor, text in sections:
        images = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', text)
        tissue, _probability, truth, _errors = (
            np.asarray(Image.open(io.BytesIO(base64.b64decode(content)))) for content in images
        )
        assert tissue.shape == truth.shape
        # The tissue is pink, the tumor violet; the true tumor is yellow over violet.
        is_tumor = tissue[..., 0] < 140
        is_stroma = (tissue[..., 0] > 210) & (tissue[..., 1] < 170)
        assert truth[is_tumor][:, 0].mean() > truth[is_stroma][:, 0].mean() + 5
        assert truth[is_tumor][:, 2].mean() < truth[is_stroma][:, 2].mean() - 20
