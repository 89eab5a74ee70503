"""`raysearch evaluate`: an external test set, its report, and classes with other names."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from raysearch.cli import run
from raysearch.data.files import Folder
from raysearch.data.shards.shard_manifest import read_manifest
from raysearch.data.shards.sharding import write_shards
from raysearch.search.study.study import Study
from raysearch.testing.test_results import read_evaluations
from support.external_sets import json_output, rename_patients
from support.harvest_services import build_pdf, image_object, tissue_image

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def external(tmp_path: Path) -> Path:
    """Shards of patients that no study has."""
    out = tmp_path / "external"
    write_shards("20:200:9", out, "synthetic", workers=1)
    rename_patients(out, "other-")
    return out


def test_an_external_test_set_is_evaluated_and_its_result_stored(
    champion_study: Study, external: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", "first", str(external)]
    result = json_output([*words, "--out", "external.html"], capsys)
    page = (tmp_path / "external.html").read_text()
    assert "External: 200 patches of 20 patients" in page
    assert result["name"] == "external"
    assert result["rows"] == 200
    assert [record.name for record in read_evaluations(champion_study.folder)] == ["external"]
    assert run([*words, "--out", "missing/x.html"]) == 2
    assert "no folder missing; create it, or name another" in capsys.readouterr().err
    assert run([*words, "--name", "held_out"]) == 2


@pytest.mark.usefixtures("champion_study")
def test_a_class_map_gives_the_classes_the_names_of_the_model(
    external: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", "first", str(external)]
    expected = json_output(words, capsys)
    manifest = replace(read_manifest(Folder(external)), class_names=("0", "1"))
    (external / "manifest.json").write_bytes(manifest.dump())
    assert run(words) == 2
    assert "map the class with --class-map 0=NAME" in capsys.readouterr().err
    result = json_output([*words, "--class-map", "0=negative,1=positive"], capsys)
    assert result["metrics"] == expected["metrics"]
    for text, message in (("0", "cannot be read"), ("2=negative", "not a class of")):
        assert run([*words, "--class-map", text]) == 2
        assert message in capsys.readouterr().err


def test_slides_of_the_training_data_are_rejected_as_slides(
    slide_study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", "first", slide_study.plan.data, "--other-patients"]
    assert run(words) == 2
    error = capsys.readouterr().err
    assert "51 slides have the same features as slides of the training data of first" in error
    assert "name shards of other slides" in error
    assert "patch" not in error


@pytest.mark.usefixtures("champion_study")
def test_the_figures_of_papers_become_an_external_test_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From PDF files to an evaluation: `harvest`, labels by a person, `shard`, `evaluate`."""
    papers, out = tmp_path / "papers", tmp_path / "harvest"
    papers.mkdir()
    for number in range(3):
        pages = [
            [image_object(tissue_image(10 + number))],
            [image_object(tissue_image(20 + number))],
        ]
        (papers / f"3100{number}.pdf").write_bytes(build_pdf(*pages))
    assert run(["harvest", str(papers), str(out), "--size", "50"]) == 0
    with (out / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:  # the synthetic tissue has the two classes in turn
        row["label"] = ("benign", "metastasis")[(int(row["x"]) // 50) % 2]
    rows[0]["label"] = ""  # a tile of which the person is not sure
    with (out / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    classes = "benign=negative,metastasis=positive"
    shards = tmp_path / "papers-test"
    words = ["shard", str(out / "labels.csv"), str(shards), "--format", "csv"]
    assert run([*words, "--class-map", classes]) == 0
    result = json_output(["evaluate", "first", str(shards), "--name", "papers"], capsys)
    assert (result["name"], result["rows"]) == ("papers", len(rows) - 1)
    assert len(rows) > 60
    assert 0.5 < result["metrics"]["auroc"]["value"] <= 1
