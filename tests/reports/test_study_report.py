"""A study as one page: every section, nothing from elsewhere, and the same beside its run."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from mlflow.tracking import MlflowClient
from numpy.typing import NDArray

from raysearch.champion.model_artifact import pack_model_artifact
from raysearch.champion.stored_champion import repeat_scores
from raysearch.cli import run
from raysearch.data.shards.patches import load_patches
from raysearch.errors import DataError, StudyError
from raysearch.inference.grad_cam_overlays import grad_cam_heatmaps
from raysearch.inference.model_loading import load_model, predict_proba
from raysearch.metrics.calibration import apply_temperature
from raysearch.models.classifier import Ensemble, PatchClassifier
from raysearch.reports.model_card import (
    KNOWN,
    OPEN,
    PARTLY,
    card_text,
    model_card,
    read_said,
)
from raysearch.reports.model_card_facts import answers
from raysearch.reports.reporting_checklists import TOPICS
from raysearch.reports.slide_map import error_map, geojson, heat_map, stitched
from raysearch.reports.study_report import study_report
from raysearch.search.study.study import Study
from raysearch.search.tracking.model_registry import ARTIFACT_PATH
from raysearch.search.tracking.tracker import Tracker
from support.champion_studies import REPEAT_SEED, study_with_champion

pytestmark = pytest.mark.filterwarnings("ignore")


class Page(HTMLParser):
    """What a page refers to, and whether every picture says what it shows."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.silent: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Note what is fetched, and what a reader who does not see it misses."""
        known = dict(attributes)
        self.addresses += [known[one] or "" for one in ("src", "href") if one in known]
        if tag == "img" and not known.get("alt"):
            self.silent.append(tag)
        if tag == "svg" and not known.get("aria-label"):
            self.silent.append(tag)


def test_the_page_has_every_section_and_needs_nothing_beside_it(
    champion_study: Study, tmp_path: Path
) -> None:
    tracker = Tracker(champion_study.plan, f"sqlite:///{tmp_path}/runs.db")
    tracker.close("FINISHED", 60)
    assert run(["test", "first"]) == 0
    assert run(["report", "first"]) == 0
    text = (tmp_path / "first.html").read_text()
    page = Page()
    page.feed(text)
    assert page.silent == []
    assert {one.split(":")[0] for one in page.addresses if not one.startswith("#")} == {"data"}
    for words in (
        *("How the champion was chosen", "Out of fold: 4", "Sealed: 7", "Opened once"),
        *("ROC curve", "Reliability", "Confusion matrix", "AUGRC", "NPV", "By fold, and pooled"),
        *(
            "How the champion&#39;s folds learned",
            "loss of each fold",
            "Importance of the hyperparameters",
        ),
        *("Model card", "CLAIM 2024", "44 items", "TRIPOD+AI", "52 items"),
        "No map: the shards do not say where the patches lie",
    ):
        assert words in text or words.replace("&#39;", "'") in text, words
    client = MlflowClient(f"sqlite:///{tmp_path}/runs.db")
    names = {one.path for one in client.list_artifacts(tracker.parent_run_id)}
    assert {"report.html", "card.md", "test.json"} <= names
    told = client.get_run(tracker.parent_run_id)
    assert told.data.tags["test_accesses"] == "1"
    assert 0 < told.data.metrics["test_auroc"] <= 1


def test_a_report_is_of_the_locked_decision(champion_study: Study) -> None:
    found = study_report(champion_study.folder).sets[0]
    decision = champion_study.history.champion_decision
    assert decision is not None
    assert found.scored.threshold == decision.threshold
    assert sum(one.support for one in found.found.classes) == len(found.scored.labels)
    assert set(found.found.folds) == {0, 1}
    assert found.before is not None
    assert found.before.error == pytest.approx(decision.error_before)
    assert found.found.reliability.error == pytest.approx(decision.error)


def test_a_study_without_a_champion_has_no_report(
    champion_study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["report", "nobody"]) == 2
    assert run(["report", "first", "--out", "nowhere/x.html"]) == 2
    assert "no folder nowhere" in capsys.readouterr().err
    champion_study.history.champion = None
    champion_study.folder.remove(champion_study.folder.JOURNAL)
    assert run(["report", "first"]) == 2
    assert "no champion yet" in capsys.readouterr().err


def placed() -> tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.float64]]:
    """Six patches in two rows, each of one grey, from pixel 51 and 101 on."""
    xs, ys = np.array([51, 101, 151, 51, 101, 201.0]), np.array([101, 101, 101, 151, 151, 151.0])
    greys = np.arange(20, 140, 20, dtype=np.uint8)
    return np.broadcast_to(greys[:, None, None, None], (6, 50, 50, 3)).copy(), xs, ys


def test_a_slide_is_put_together_where_its_patches_were_cut() -> None:
    pixels, xs, ys = placed()
    found = stitched(pixels, xs, ys)
    assert found.image.shape == (100, 200, 3)
    assert found.image[25, 25].tolist() == [20] * 3
    assert found.image[75, 175].tolist() == [120] * 3
    assert found.image[75, 125].tolist() == [255] * 3  # there is no patch
    heat = heat_map(found, np.linspace(0, 1, 6, dtype=np.float32))
    assert heat[75, 125].tolist() == [255] * 3
    assert heat[25, 25].tolist() != heat[75, 175].tolist()
    wrong = error_map(found, np.array([0, 1, 0, 0, 0, 0]), np.array([0, 0, 0, 1, 0, 0]))
    changed = np.argwhere((wrong != found.image).any(axis=2))
    assert {(one[0] // 50, one[1] // 50) for one in changed.tolist()} == {(0, 1), (1, 0)}
    with pytest.raises(DataError, match="place of every patch"):
        stitched(pixels, np.full(6, np.nan), ys)


def test_a_large_slide_is_shown_smaller_without_gaps() -> None:
    side = 60
    places = np.arange(side) * 50.0 + 1
    pixels = np.full((side * side, 50, 50, 3), 100, np.uint8)
    found = stitched(pixels, np.tile(places, side), np.repeat(places, side))
    assert max(found.image.shape) <= 1400
    assert (found.image == 100).all()


def test_tiles_for_other_programs_lie_at_their_pixels() -> None:
    _pixels, xs, ys = placed()
    scores = np.column_stack([np.linspace(1, 0, 6), np.linspace(0, 1, 6)])
    found = json.loads(geojson(xs, ys, (50, 50), scores, np.ones(6, np.int64), ("no", "yes")))
    first, last = found["features"][0], found["features"][-1]
    assert first["geometry"]["coordinates"][0][0] == [50, 100]
    assert last["geometry"]["coordinates"][0][2] == [250, 200]
    assert last["properties"]["objectType"] == "tile"
    assert last["properties"]["classification"]["name"] == "yes"
    assert last["properties"]["measurements"] == {"score_no": 0.0, "score_yes": 1.0}
    assert first["properties"]["classification"] != last["properties"]["classification"]
    assert all(
        re.fullmatch(r"\d+", str(one)) for one in first["properties"]["classification"]["color"]
    )


def test_an_ensemble_is_told_explained_and_loaded_as_what_it_is(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/runs.db")
    study = study_with_champion(shards, tmp_path / "studies" / "five", kind="ensemble")
    told = study_report(study.folder)
    again = repeat_scores(study.folder, study.plan, told.champion, REPEAT_SEED)
    decision = study.history.champion_decision
    assert decision is not None
    judged = told.sets[0].scored.probabilities
    assert np.array_equal(judged, apply_temperature(again.probabilities, decision.temperature))
    model = load_model("five", "studies")
    assert isinstance(model.classifier, Ensemble)
    assert len(model.classifier.members) == model.artifact.num_members == 2
    (tmp_path / "kept" / ARTIFACT_PATH).parent.mkdir(parents=True)
    (tmp_path / "kept" / ARTIFACT_PATH).write_bytes(pack_model_artifact(model.artifact, model.classifier))
    kept, pixels = load_model("kept", "studies"), load_patches(str(shards)).pixels[:9]
    assert np.array_equal(predict_proba(kept, pixels), predict_proba(model, pixels))
    patches = np.array(pixels).reshape(-1, *study.plan.shape)
    maps = [
        grad_cam_heatmaps(replace(model, classifier=one), patches, np.ones(9, np.int64))
        for one in model.classifier.members
        if isinstance(one, PatchClassifier)
    ]
    together = grad_cam_heatmaps(model, patches, np.ones(9, np.int64))
    assert np.abs(together - (maps[0] + maps[1]) / 2).max() < 1e-6
    assert not np.allclose(maps[0], maps[1])
    assert run(["report", "five"]) == 0
    assert "the mean of 2 nets, one a fold of the first fresh seed" in Path("five.html").read_text()
    assert run(["weights", "five", "x.pt"]) == 2


def test_a_card_says_what_the_study_knows_and_leaves_the_rest_to_people(
    champion_study: Study, tmp_path: Path
) -> None:
    report = study_report(champion_study.folder)
    claim, tripod = model_card(report, {}).parts
    assert [one.number for one in claim.lines] == [str(one + 1) for one in range(44)]
    assert len(tripod.lines) == 52
    by_number = {one.number: one for one in claim.lines}
    assert by_number["19"].state == KNOWN
    assert champion_study.plan.splits[0].hash[:12] in by_number["19"].text
    assert by_number["7"].state == PARTLY
    assert champion_study.plan.fingerprint[:12] in by_number["7"].known
    assert by_number["44"].state == OPEN
    assert by_number["44"].text == "Open: only a person can say (`funding`)."
    assert "The held-out set is unopened" in by_number["32"].text
    assert str(report.selection.corrected) in by_number["2"].text
    assert claim.counts == "44 items: " + ", ".join(
        f"{sum(one.state == state for one in claim.lines)} {state}"
        for state in (KNOWN, PARTLY, OPEN)
    )
    said = tmp_path / "said.yaml"
    said.write_text("funding: |\n  None,\n  from nobody.\nsources: Two hospitals | 2008.\n")
    filled = model_card(report, read_said(said)).parts[0]
    told = {one.number: one for one in filled.lines}
    assert (told["44"].state, told["44"].text) == (KNOWN, "None, from nobody.")
    assert told["7"].state == KNOWN
    assert told["7"].text.endswith("Two hospitals | 2008.")
    text = card_text(model_card(report, read_said(said)))
    row = next(one for one in text.splitlines() if one.startswith("| 7 |"))
    assert len(re.findall(r"(?<!\\)\|", row)) == 5


def test_every_topic_of_a_checklist_is_either_known_or_a_persons(champion_study: Study) -> None:
    known = answers(study_report(champion_study.folder))
    assert set(known) <= set(TOPICS)
    assert all(one.known or one.open for one in known.values())
    assert not {"funding", "ethics", "fairness", "annotators"} & set(known)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fundin: none", "'fundin' is no topic; maybe funding"),
        ("funding: 3", "give topics and texts, such as `funding: none`"),
        ("[", "no YAML"),
        (None, "No such file"),
    ],
)
def test_what_is_no_answer_to_a_card_is_rejected(
    tmp_path: Path, text: str | None, said: str
) -> None:
    file = tmp_path / "said.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(StudyError, match=re.escape(said)):
        read_said(file)
