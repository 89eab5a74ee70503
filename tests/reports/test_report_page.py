"""The report of a study: a self-contained page with every section, and its artifacts in MLflow."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from mlflow.tracking import MlflowClient

from raysearch.analysis import stored_importances
from raysearch.analysis.stored_importances import write_importances
from raysearch.champion.model_artifact import pack_model_artifact
from raysearch.champion.stored_champion import repeat_scores
from raysearch.cli import run
from raysearch.data.shards.patches import load_patches
from raysearch.errors import DataError
from raysearch.inference.grad_cam_overlays import grad_cam_heatmaps
from raysearch.inference.model_loading import load_model, predict_proba
from raysearch.metrics.calibration import apply_temperature
from raysearch.models.classifier import Ensemble, PatchClassifier
from raysearch.reports import report_page
from raysearch.reports.study_report import study_report
from raysearch.search.study.study import Study
from raysearch.search.tracking.model_registry import ARTIFACT_PATH
from raysearch.search.tracking.tracker import Tracker
from support.champion_studies import REPEAT_SEED, study_with_champion
from support.external_sets import json_output
from support.result_studies import new_study
from support.slide_files import slide_shards

pytestmark = pytest.mark.filterwarnings("ignore")


class Page(HTMLParser):
    """The addresses that a page refers to, and its images and charts without a text alternative."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.without_text: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Record the addresses of a tag, and whether its text alternative is missing."""
        values = dict(attributes)
        self.addresses += [values[name] or "" for name in ("src", "href") if name in values]
        if tag == "img" and not values.get("alt"):
            self.without_text.append(tag)
        if tag == "svg" and not values.get("aria-label"):
            self.without_text.append(tag)


def test_the_page_has_every_section_and_needs_no_other_file(
    champion_study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = Tracker(champion_study.plan, f"sqlite:///{tmp_path}/runs.db")
    tracker.close("FINISHED", 60)
    assert run(["test", "first"]) == 0
    write_importances(champion_study.folder, champion_study.plan, champion_study.history)
    monkeypatch.delattr(stored_importances, "hyperparameter_importances")  # they are read
    assert run(["report", "first"]) == 0
    text = (tmp_path / "first.html").read_text()
    page = Page()
    page.feed(text)
    assert page.without_text == []
    schemes = {address.split(":")[0] for address in page.addresses if not address.startswith("#")}
    assert schemes == {"data"}
    for words in (
        *("How the champion was selected", "Out of fold: 4", "Held-out test set, 7"),
        "Accesses: 1 by this study",
        *("ROC curve", "Reliability", "Confusion matrix", "AUGRC", "NPV", "By fold, and pooled"),
        *("Learning curves of the champion&#39;s folds", "Importance of the hyperparameters"),
        *("why it differs", "mean over folds", "pooled out of fold", "bias-corrected estimate"),
        "Undefined: the space has no hyperparameter to search",
        *("Model card", "CLAIM 2024", "44 items", "TRIPOD+AI", "52 items"),
        "No slide map: the positions of the patches are unknown",
    ):
        assert words in text or words.replace("&#39;", "'") in text, words
    client = MlflowClient(f"sqlite:///{tmp_path}/runs.db")
    names = {artifact.path for artifact in client.list_artifacts(tracker.parent_run_id)}
    assert {"report.html", "card.md", "test.json"} <= names
    parent_run = client.get_run(tracker.parent_run_id)
    assert parent_run.data.tags["test_accesses"] == "1"
    assert 0 < parent_run.data.metrics["test_auroc"] <= 1


def test_a_study_without_a_champion_has_no_report(
    champion_study: Study, many: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["report", "nobody"]) == 2
    assert run(["report", "first", "--out", "nowhere/x.html"]) == 2
    assert "no folder nowhere" in capsys.readouterr().err
    new_study(many, champion_study.folder.local.with_name("second"))
    assert run(["report", "second"]) == 2
    assert "no champion yet" in capsys.readouterr().err


def test_the_report_of_an_ensemble_uses_all_of_its_networks(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/runs.db")
    study = study_with_champion(shards, tmp_path / "studies" / "five", kind="ensemble")
    report = study_report(study.folder)
    scores = repeat_scores(study.folder, study.plan, report.champion, REPEAT_SEED)
    decision = study.history.champion_decision
    assert decision is not None
    calibrated = apply_temperature(scores.probabilities, decision.temperature)
    assert np.array_equal(report.out_of_fold.scored.probabilities, calibrated)
    model = load_model("five", "studies")
    assert isinstance(model.classifier, Ensemble)
    assert len(model.classifier.members) == model.artifact.num_members == 2
    stored = tmp_path / "stored" / ARTIFACT_PATH
    stored.parent.mkdir(parents=True)
    stored.write_bytes(pack_model_artifact(model.artifact, model.classifier))
    stored_model, pixels = load_model("stored", "studies"), load_patches(str(shards)).pixels[:9]
    assert np.array_equal(predict_proba(stored_model, pixels), predict_proba(model, pixels))
    patches = np.array(pixels).reshape(-1, *study.plan.shape)
    classes = np.ones(9, np.int64)
    first, second = (
        grad_cam_heatmaps(replace(model, classifier=member), patches, classes)
        for member in model.classifier.members
        if isinstance(member, PatchClassifier)
    )
    heatmaps = grad_cam_heatmaps(model, patches, classes)
    assert np.abs(heatmaps - (first + second) / 2).max() < 1e-6
    assert not np.allclose(first, second)
    assert run(["report", "five"]) == 0
    page = Path("five.html").read_text()
    assert "the mean of 2 networks, one for each fold of the first repeat" in page
    assert run(["weights", "five", "x.pt"]) == 2


# What a page on slides says of their patches: on the attention, the features, and their number.
PATCHES_OF_SLIDES = (
    r"Each square is a patch at its position on the slide",
    r"slide S-\w{10}, \d+ patches",
    r"Features of the patches of each slide, standardized for each patch",
    r"16 features of each patch; a slide has \d+ patches \(median\)",
    r"16 features of each patch of a slide",
    r"The features of the patches of a slide only",
    r"The attention to the patches of a slide",
)


@pytest.mark.usefixtures("slide_study")
def test_the_report_on_slides_speaks_of_patches_only_where_it_means_those_of_a_slide(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    others = str(slide_shards(tmp_path / "others", 20, seed=1))
    words = ["evaluate", "first", others, "--name", "others", "--other-patients", "--out", "x.html"]
    assert json_output(["test", "first"], capsys)["unit"] == "slides"
    assert json_output(words, capsys)["unit"] == "slides"
    assert "Others: 20 slides of 20 patients" in (tmp_path / "x.html").read_text()
    assert "patch" not in _texts(tmp_path / "x.html")
    assert run(["report", "first"]) == 0
    text = _texts(tmp_path / "first.html")
    for pattern in PATCHES_OF_SLIDES:
        assert re.search(pattern, text), pattern
        text = re.sub(pattern, "", text)
    assert [
        text[max(0, at.start() - 60) : at.end() + 30] for at in re.finditer("patch", text)
    ] == []
    for words_of_slides in (
        *("Held-out test set, 9 slides of 9 patients", "others, 20 slides of 20 patients"),
        *("a slide of class tumor", "ms per slide", "GFLOPs per slide", "Rule-out by slide"),
        *("; slides: ", "rule-out by slide and patient", "Each slide is scored"),
        *("One value of the slides of all folds", "slides and labels existed before the study"),
        *("classification of histology slides", "became slides", "registered model to each slide"),
    ):
        assert words_of_slides in text, words_of_slides


def _texts(path: Path) -> str:
    """Return the texts of a page: attributes and charts included, styles and pictures excluded."""
    text = re.sub(r"<style.*?</style>|data:[^\"]*", "", path.read_text(), flags=re.DOTALL)
    return html.unescape(text)


def test_without_pictures_the_report_on_slides_explains_no_grad_cam(
    slide_study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_model(_name: str, _studies: str) -> None:
        raise DataError("gone")

    monkeypatch.setattr(report_page, "load_model", no_model)
    assert slide_study.plan.unit == "slides"
    assert run(["report", "first"]) == 0
    assert "Grad-CAM" not in _texts(tmp_path / "first.html")
