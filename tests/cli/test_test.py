"""`raysearch test`: its tables and its JSON."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raysearch.cli import run
from raysearch.data.files import Folder
from raysearch.data.shards.sharding import write_shards
from raysearch.data.splits.access_log import read_test_set_accesses
from raysearch.inference import model_loading
from raysearch.search.study.study import Study
from raysearch.testing import held_out_test
from raysearch.testing.test_results import HELD_OUT, RECORD
from support.champion_studies import HPARAMS, study_with_champion
from support.external_sets import json_output

pytestmark = pytest.mark.filterwarnings("ignore")


def test_the_json_has_the_record_the_metrics_and_the_error_of_mlflow(
    champion_study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    first = json_output(["test", "first"], capsys)
    assert first["patients"] == len(champion_study.plan.view.held_out) == 9
    assert first["accesses"] == {"by_study": 1, "total": 1}
    assert "no run of study" in str(first["tracking_error"])
    assert first["stored"] is False


def test_a_tested_champion_has_its_stored_result_without_another_access(
    champion_study: Study, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = json_output(["test", "first"], capsys)
    with monkeypatch.context() as patch:
        # Neither the test set nor the model is read.
        patch.setattr(held_out_test, "load_patches", None)
        patch.setattr(model_loading, "load_champion", None)
        second = json_output(["test", "first"], capsys)
        assert run(["test", "first"]) == 0
        output = " ".join(capsys.readouterr().out.split())
    assert second == first | {"stored": True}
    assert f"Stored the result of {first['time']}, without another access" in output
    assert "Accesses 1 by this study, 1 in total" in output
    plan = champion_study.plan
    assert len(read_test_set_accesses(Folder(plan.data), "label")) == 1
    again = json_output(["test", "first", "--again"], capsys)
    assert again["accesses"] == {"by_study": 2, "total": 2}
    assert (again["stored"], again["metrics"]) == (False, first["metrics"])
    assert json_output(["test", "first"], capsys)["accesses"] == {"by_study": 2, "total": 2}


def test_another_champion_has_no_stored_result(
    champion_study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["test", "first"]) == 0
    capsys.readouterr()
    history = champion_study.history
    decision = history.champion_decision
    assert decision is not None
    trial = history.trials[str(history.champion)]
    champion_study.record_champion(trial, replace(decision, temperature=2.0))
    assert run(["test", "first"]) == 2
    assert "the decision rule now has another temperature" in capsys.readouterr().err


def test_an_interrupted_evaluation_has_no_stored_result(
    champion_study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    json_output(["test", "first"], capsys)
    folder = champion_study.folder
    record = f"{folder.evaluation(HELD_OUT)}/{RECORD}"
    content = folder.read(record)
    folder.remove(record)
    assert json_output(["test", "first"], capsys)["accesses"] == {"by_study": 2, "total": 2}
    folder.write(record, content[:-9])
    assert run(["test", "first"]) == 2
    assert "evaluate that test set again with `raysearch test --again`" in capsys.readouterr().err
    assert json_output(["test", "first", "--again"], capsys)["stored"] is False


@pytest.mark.usefixtures("champion_study")
def test_the_tables_show_the_metrics_and_the_number_of_accesses(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["test", "first"]) == 0
    output = capsys.readouterr().out
    for text in (
        "Held-out test set of first: 7",
        "95 % CI by patient",
        "By class; ",
        "Selective prediction by confidence",
        "Rule-out by patient",
        "number of confident positives",
        "Accesses  1 by this study, 1 in total; logged next to the split manifest in ",
    ):
        assert text in output


def test_known_positions_add_the_auroc_smoothed_over_neighbors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/runs.db")
    write_noisy_slides(tmp_path / "images")
    write_shards(str(tmp_path / "images"), tmp_path / "slides", "idc", workers=1)
    assert run(["split", str(tmp_path / "slides"), "--folds", "2", "--test", "0.25"]) == 0
    hparams = {**HPARAMS, "batch_size": 8}
    study_with_champion(tmp_path / "slides", tmp_path / "studies" / "placed", hparams)
    result = json_output(["test", "placed"], capsys)
    unsmoothed, smoothed = result["metrics"]["auroc"], result["smoothed_auroc"]
    assert smoothed["value"] > unsmoothed["value"] + 0.05
    assert smoothed["low"] < smoothed["value"] <= smoothed["high"]
    assert run(["test", "placed"]) == 0
    output = " ".join(capsys.readouterr().out.replace("│", "").split())
    assert f"auroc, neighbor-smoothed {smoothed['value']:.4f}" in output
    assert run(["report", "placed"]) == 0
    page = (tmp_path / "placed.html").read_text()
    assert page.count("auroc, neighbor-smoothed") == 2  # out of fold, and held-out


def write_noisy_slides(top: Path) -> None:
    """Write images of 12 slides in the layout of IDC; patches of the right half are positive.

    These are a bit darker, which noise hides in a single patch.
    """
    rng = np.random.default_rng(0)
    for patient, x, y in np.ndindex(12, 6, 6):
        label = int(x > 2)
        name = f"{patient}_idx5_x{50 * x + 1}_y{50 * y + 1}_class{label}.png"
        path = top / f"{patient}/{label}/{name}"
        path.parent.mkdir(parents=True, exist_ok=True)
        red = int(np.clip(150 - 25 * label + rng.normal(0, 25), 0, 255))
        Image.new("RGB", (50, 50), (red, 90 + patient, 3 * x + 20 * y)).save(path)


def test_what_cannot_be_tested_is_rejected(
    champion_study: Study, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study_with_champion(shards, tmp_path / "studies" / "small")
    champion_study.folder.remove(champion_study.folder.CHAMPION)
    for name, message in (
        ("unknown", "no study 'unknown'"),
        ("small", "no held-out test set"),
        ("first", "missing or damaged"),
    ):
        assert run(["test", name]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.usefixtures("slide_study")
def test_the_result_on_slides_counts_slides(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["test", "first", "--again"], ["test", "first"]):
        assert run(words) == 0
        captured = capsys.readouterr()
        output = " ".join(captured.out.split())
        assert "Held-out test set of first: 9 slides of 9 patients" in output
        assert "Rule-out by slide" in output
        assert "patients have a slide of class tumor" in output
        assert "patch" not in output + captured.err
