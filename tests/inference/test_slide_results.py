"""`raysearch predict` on slides: the table, the regions and the maps agree with the drawn truth."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import shapely
import tifffile
from numpy.typing import NDArray
from PIL import Image

from raysearch.cli import run
from raysearch.data.files import Folder
from raysearch.data.shards.sharding import write_shards
from raysearch.data.slides.slide_options import SlideOptions
from raysearch.data.sources.listing import SourceOptions
from raysearch.errors import DataError
from raysearch.inference.model_loading import load_model
from raysearch.inference.prediction import predict
from raysearch.inference.score_sources import open_source
from raysearch.inference.slide_results import SlideResultSummary, write_slide_results
from raysearch.inference.tile_source import TileSource
from support.champion_studies import HPARAMS, study_with_champion
from support.slide_cohort import TISSUE, Cohort, tumor_of, write_cohort

pytestmark = pytest.mark.filterwarnings("ignore")
TILE = 96  # in pixels of level 0


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return write_cohort(tmp_path_factory.mktemp("cohort"))


@pytest.fixture(scope="module")
def slide_studies(cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of the study `first`, whose champion was trained on tiles of the cohort."""
    folder = tmp_path_factory.mktemp("slide-study")
    options = SlideOptions(
        mpp=0.5, size=(48, 48), annotations=str(cohort.annotations), labels=str(cohort.labels)
    )
    source_options = SourceOptions(slides=options)
    write_shards(str(cohort.slides), folder / "tiles", "slides", options=source_options, workers=1)
    hparams = {**HPARAMS, "learning_rate": 0.02, "batch_size": 16}
    study_with_champion(folder / "tiles", folder / "studies" / "first", hparams)
    return str(folder / "studies")


def tiles_of(out: Path, number: int) -> dict[str, NDArray[Any]]:
    """Return the columns of the scores of a slide."""
    table = pq.read_table(out / "scores.parquet", filters=[("patient", "=", f"case{number}")])
    return {name: np.array(table[name].to_pylist()) for name in table.column_names}


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_the_table_and_the_scores_of_slides_agree_with_the_drawn_truth(
    cohort: Cohort,
    slide_studies: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAYSEARCH_STUDIES", slide_studies)
    out = tmp_path / "out"
    arguments = ["predict", "first", str(cohort.slides), str(out)]
    assert run([*arguments, "--explain", "2", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["num_slides"], printed["num_rejected"]) == (3, 0)
    assert len(list((out / "explain").iterdir())) == 2
    rows = read_csv(out / "slides.csv")
    assert [row["slide"] for row in rows] == ["case0", "case1", "case2"]
    for number, row in enumerate(rows):
        tiles = tiles_of(out, number)
        # The network distinguishes the colors: a tile is tumor if most of it is.
        truth = shapely.Polygon(tumor_of(number))
        boxes = shapely.box(tiles["x"], tiles["y"], tiles["x"] + TILE, tiles["y"] + TILE)
        fractions = shapely.area(shapely.intersection(truth, boxes)) / TILE**2
        is_clear = (fractions < 0.1) | (fractions > 0.9)
        is_tumor = tiles["decision"] == "Tumor"
        assert np.array_equal(is_tumor[is_clear], fractions[is_clear] > 0.5)
        assert row["class"] == "Stroma"
        assert int(row["tiles"]) == len(is_tumor)
        assert float(row["area_mm2"]) == pytest.approx(len(is_tumor) * 0.024**2, abs=1e-6)
        assert float(row["fraction_Tumor"]) == pytest.approx(is_tumor.mean(), abs=1e-6)
        mean, largest = tiles["score_Tumor"].mean(), tiles["score_Tumor"].max()
        assert float(row["mean_score_Tumor"]) == pytest.approx(mean, abs=1e-5)
        assert float(row["max_score_Tumor"]) == pytest.approx(largest, abs=1e-5)
    assert not list((out / "slides").glob("*-tiles.geojson"))
    # The same command completes what is missing, and scores nothing again.
    (out / "slides.csv").unlink()
    assert run(arguments) == 0
    assert "3 in " in capsys.readouterr().err
    assert read_csv(out / "slides.csv") == rows


def test_the_maps_and_the_regions_have_the_scores_of_the_tiles(
    cohort: Cohort, slide_studies: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = ["predict", "first", str(cohort.slides), str(out), "--studies", slide_studies]
    assert run([*arguments, "--tiles"]) == 0
    table = read_csv(out / "regions.csv")
    for number, row in enumerate(read_csv(out / "slides.csv")):
        tiles, stem = tiles_of(out, number), out / row["files"]
        with Image.open(f"{stem}-overlay.png") as overlay:
            assert overlay.size == (800, 600)
        image = tifffile.imread(f"{stem}-probability.tif")
        values = image[1][tiles["y"] // TILE, tiles["x"] // TILE]
        assert np.allclose(values, tiles["score_Tumor"], atol=1e-6)
        assert np.isfinite(image[1]).sum() == len(values)
        features = json.loads(Path(f"{stem}.geojson").read_text())["features"]
        for class_name, inside in (("Stroma", TISSUE), ("Tumor", tumor_of(number))):
            regions = [
                shapely.geometry.shape(feature["geometry"])
                for feature in features
                if feature["properties"]["classification"]["name"] == class_name
            ]
            count = int((tiles["decision"] == class_name).sum())
            assert shapely.union_all(regions).area == count * TILE**2
            assert shapely.union_all(regions).within(shapely.Polygon(inside).buffer(TILE))
            # Regions are merged: a few in place of hundreds of tiles.
            assert len(regions) < 5
            ranks = [
                int(region["rank"])
                for region in table
                if region["slide"] == row["slide"] and region["class"] == class_name
            ]
            assert ranks == list(range(1, len(regions) + 1))
        measurements = [feature["properties"]["measurements"] for feature in features]
        assert sum(values["tiles"] for values in measurements) == len(values)
        total = sum(values["area mm2"] for values in measurements)
        assert total == pytest.approx(len(values) * 0.024**2, abs=1e-5)
        tile_features = json.loads(Path(f"{stem}-tiles.geojson").read_text())["features"]
        assert len(tile_features) == len(values)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--maps"], "--maps: has no effect with slides, whose maps are always written"),
        (["--mpp", "1"], "--mpp 1: the model was trained on tiles of 0.5 micrometres a pixel"),
    ],
)
def test_options_without_an_effect_on_slides_are_rejected_in_one_line(
    cohort: Cohort,
    slide_studies: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    reason: str,
) -> None:
    out = tmp_path / "out"
    arguments = ["predict", "first", str(cohort.slides), str(out), "--studies", slide_studies]
    assert run([*arguments, *options]) == 2
    message = capsys.readouterr().err
    assert reason in message
    assert message.count("\n") == 1
    assert not out.exists()


def test_a_slide_with_a_damaged_tile_has_no_result_and_is_named(
    cohort: Cohort, slide_studies: str, tmp_path: Path
) -> None:
    model, out = load_model("first", slide_studies), Folder(tmp_path / "out")
    settings = model.artifact.tile_settings
    slides = tmp_path / "slides"
    slides.mkdir()
    for path in cohort.slides.iterdir():
        (slides / path.name).write_bytes(path.read_bytes())
    source = open_source(str(slides), None, "label", (48, 48, 3), SourceOptions(), settings)
    assert isinstance(source, TileSource)
    damaged = slides / "case1.tiff"
    damaged.write_bytes(damaged.read_bytes()[:5000])
    summary = predict(model, source, out, lambda _progress: None)
    assert summary.num_rejected > 50
    written = write_slide_results(model.artifact, source, out)
    assert written == SlideResultSummary(2, ("case1.tiff",))
    assert [row["slide"] for row in read_csv(tmp_path / "out" / "slides.csv")] == ["case0", "case2"]
    # The scores of other tiles are not drawn.
    other = replace(source, items=source.items[:100])
    with pytest.raises(DataError, match="scores of other tiles than the slides have now"):
        write_slide_results(model.artifact, other, out)
    assert not (tmp_path / "out" / "slides").exists()
