"""The champion: the cheapest of those that are as good as the best, with what is locked with it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from raysearch.champion.registration import champion_net
from raysearch.cli import run
from raysearch.cli.selection_text import selection_lines
from raysearch.errors import StudyError
from raysearch.metrics.calibration import CRITERIA, fit_threshold
from raysearch.metrics.model_selection import MARGIN
from raysearch.search.journal.history import Trial
from raysearch.search.study.fold_scores import OutOfFold, out_of_fold, scores_file
from raysearch.search.study.study import Study
from raysearch.search.study.trial_data import training_data
from raysearch.selection.decision_rule import Options, decide
from raysearch.selection.paired_bootstrap import Draws
from raysearch.selection.selection import rungs_of, select
from raysearch.training.checkpoint import pack
from raysearch.training.fold_training import Judged
from raysearch.training.loop import FoldEpoch
from support.result_studies import new_study, next_searched, report

TREE: dict[str, Any] = {
    "epochs": 2,
    "trials": 4,
    "seed": 1,
    "sampler": "random",
    "stopping": {"rule": "asha", "grace": 1, "reduction": 2, "paired": 0},
    "space": {
        "folds": 2,
        "width": {"choice": [4, 8]},
        "learning_rate": {"loguniform": [0.001, 0.01]},
        "tta": {"choice": ["none", "dihedral"]},
    },
}


def judged(study: Study, trial: Trial, shards: Path, noise: float, cost: Mapping[str, Any]) -> None:
    """Let `trial` report what a net would whose logits are wrong by `noise`, to its end."""
    data = training_data(study.folder.address, str(shards), "cpu", 2, 1.0)
    labels = data.labels.numpy()
    # What is hard is hard for all: trials are alike but for how noisy they are.
    wrong = np.random.default_rng(0).normal(0, 1, len(labels))
    own = np.random.default_rng(int(trial.id[1:])).normal(0, 0.02, len(labels))
    for epoch in range(1, 5):
        fold = (epoch - 1) // 2
        rows = data.folds[fold][1]
        margin = (2.0 * labels[rows] - 1) + noise * wrong[rows] + own[rows]
        logits = np.column_stack([-2 * margin, 2 * margin]).astype(np.float32)
        done = FoldEpoch(epoch, fold, 0.7, 1.0, {"auroc": 0.7}, 0.5, 8)
        scores = scores_file(done, Judged(rows, logits, None), data)
        study.folder.write(study.folder.scores(trial.id, epoch), scores)
        value = float(roc_auc_score(labels[rows], margin))
        told = {**report(epoch, value), "fold": fold, **cost}
        if not study.report(trial.id, told):
            return


def costing(parameters: int, milliseconds: float) -> dict[str, Any]:
    return {"costs": {"parameters": parameters, "flops": 1}, "inference_ms": milliseconds}


@pytest.fixture
def study(shards: Path, tmp_path: Path) -> Study:
    """Four trials that finished: as good but dear, the same but cheap, clearly worse, cheapest."""
    tree = {**TREE, "stopping": {"rule": "none"}}
    found = new_study(shards, tmp_path / "studies" / "chosen", tree)
    for noise, parameters, time in ((0.6, 9, 5.0), (0.6, 5, 2.0), (1.2, 5, 2.1), (2.0, 1, 1.0)):
        trial = next_searched(found)
        trial.hparams = {**trial.hparams, "tta": "none"}
        judged(found, trial, shards, noise, costing(parameters, time))
    return found


def rows_of(study: Study, trial: str) -> OutOfFold:
    return out_of_fold(study.folder, study.plan, trial, 2)


def test_the_cheapest_of_those_that_are_as_good_is_chosen(study: Study) -> None:
    found = select(study.folder, study.plan, study.history, 0.01)
    assert {one.trial.id for one in found.tied} == {"t0000", "t0001"}
    assert found.chosen.id == "t0001"
    assert found.order[0] is found.chosen
    assert len(set(map(id, found.order))) == 4
    values = [one.objective.value for one in found.candidates]
    assert values == sorted(values, reverse=True)  # type: ignore[type-var]
    for one in found.candidates:
        rows = rows_of(study, one.trial.id)
        assert one.objective.value == pytest.approx(
            roc_auc_score(rows.labels, rows.probabilities[:, 1]), abs=1e-9
        )
    assert found.corrected.value is not None
    assert found.corrected.low is not None


def test_trials_of_one_net_have_one_time_and_views_count(study: Study) -> None:
    found = select(study.folder, study.plan, study.history)
    times = {one.trial.id: one.inference_ms for one in found.candidates}
    assert times == {"t0000": 5.0, "t0001": 2.05, "t0002": 2.05, "t0003": 1.0}
    trial = study.history.trials["t0001"]
    trial.hparams = {**trial.hparams, "tta": "dihedral"}
    found = select(study.folder, study.plan, study.history, 0.01)
    assert {one.trial.id: one.inference_ms for one in found.candidates}["t0001"] == 8 * 2.05
    assert found.chosen.id == "t0000"


def test_without_times_the_best_is_chosen(study: Study) -> None:
    for trial in study.history.searched():
        for one in trial.reports:
            one.pop("inference_ms", None)
    found = select(study.folder, study.plan, study.history, 0.01)
    assert found.chosen is found.candidates[0].trial


def test_rungs_are_drawn_again_with_as_many_that_go_on(shards: Path, tmp_path: Path) -> None:
    study = new_study(shards, tmp_path / "studies" / "rungs", TREE)
    for noise in (2.0, 1.0, 3.0, 0.5):
        judged(study, next_searched(study), shards, noise, {})
    rows = rows_of(study, "t0000")
    draws = Draws.of_patients(rows.patients, 50, 0)
    found = rungs_of(study.folder, study.plan, study.history, draws)
    assert [len(one.trials) for one in found] == [len(one.values) for one in _ordered(study)]
    assert found[0].on == sum(one.epoch > 1 for one in study.history.searched()) < 4
    assert all(one.drawn.shape == (len(one.trials), 50) for one in found)
    select(study.folder, study.plan, study.history)


def test_a_rung_is_drawn_of_the_folds_that_a_draw_has_a_patient_of(
    shards: Path, tmp_path: Path
) -> None:
    tree = {**TREE, "objective": {"metric": "accuracy", "mode": "max"}}
    study = new_study(shards, tmp_path / "studies" / "few", tree)
    judged(study, next_searched(study), shards, 0.5, {})
    rows = rows_of(study, "t0000")
    first = np.unique(rows.patients[rows.folds == 0])
    weights = np.array([np.ones(12), 1.0 * ~np.isin(np.unique(rows.patients), first)])
    draws = Draws(np.unique(rows.patients), np.concatenate([np.ones((1, 12)), weights]))
    found = rungs_of(study.folder, study.plan, study.history, draws)
    assert np.isnan(found[0].drawn).tolist() == [[False, True]]  # within the first fold
    whole = Draws(draws.patients, draws.weights[:2])
    assert (
        found[0].drawn[0, 0]
        == rungs_of(study.folder, study.plan, study.history, whole)[0].drawn[0, 0]
    )


def _ordered(study: Study) -> list[Any]:
    return [rung for _level, rung in sorted(study.history.rungs.items())]


def test_a_study_without_a_finished_trial_is_rejected(shards: Path, tmp_path: Path) -> None:
    study = new_study(shards, tmp_path / "studies" / "none", TREE)
    with pytest.raises(StudyError, match="no trial that finished all its folds"):
        select(study.folder, study.plan, study.history)


def test_lost_scores_are_told(study: Study) -> None:
    study.folder.remove(study.folder.scores("t0002", 4))
    with pytest.raises(StudyError, match=r"scores/t0002: missing or damaged"):
        select(study.folder, study.plan, study.history)


def test_what_is_locked_is_fitted_on_all_folds_at_once(study: Study) -> None:
    rows = rows_of(study, "t0000")
    found = decide(rows, "f1")
    assert found.temperature != 1.0
    assert found.error is not None
    assert found.error_before is not None
    assert found.error < found.error_before
    margin = np.log(rows.probabilities[:, 1] / rows.probabilities[:, 0])
    calibrated = expit(margin / found.temperature)
    assert found.threshold == pytest.approx(fit_threshold(rows.labels, calibrated, "f1"))
    three = OutOfFold(
        rows.labels,
        np.column_stack([rows.probabilities * 0.9, np.full(len(rows.labels), 0.1)]),
        *(rows.patients, rows.folds, rows.rows),
    )
    assert decide(three).threshold is None


def test_a_later_launch_selects_as_the_last_selection_did(study: Study) -> None:
    assert Options.of(study.history.locked, study.plan.space) == Options()
    locked = {"margin": 0.02, **decide(rows_of(study, "t0000"), "accuracy").told}
    study.crown(study.history.trials["t0000"], locked)
    assert Options.of(study.history.locked, study.plan.space) == Options(0.02, "accuracy")


def test_weights_of_another_trial_are_not_taken_for_the_champions(study: Study) -> None:
    """As a launch leaves them that is killed between a refit and its crown."""
    trial = study.history.trials["t0000"]
    study.crown(trial, {})
    study.folder.write(study.folder.CHAMPION, pack({"trial": "t0003", "model": {}}))
    with pytest.raises(StudyError, match=r"champion\.pt: missing or damaged"):
        champion_net(study.folder, study.plan, study.history)


def test_the_table_and_the_words_say_who_and_why(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["select", "chosen", "--dry-run", "--studies", str(Path(study.folder.address).parent)]
    assert run([*words, "--margin", "0.01"]) == 0
    said = capsys.readouterr().out
    assert "pooled out of fold over" in said
    (row,) = [line for line in said.splitlines() if "chosen" in line and "t0001" in line]
    assert row
    assert run([*words, "--margin", "0.01", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["trial"] for one in found["candidates"] if one["chosen"]] == ["t0001"]
    end = {
        "champion": "t0001",
        "chosen": "t0001",
        "tied": ["t0000", "t0001"],
        "margin": 0.01,
        "corrected": found["corrected"],
        "kind": "refit",
        "objective": found["candidates"][1]["objective"],
        "fresh": [],
        "locked": decide(rows_of(study, "t0001")).told,
    }
    lines = selection_lines(study.plan, study.history, end)
    assert lines[0] == (
        "Selected  t0001: of 2 that are as good within 0.01 (t0000, t0001), the fastest"
    )
    assert "what the best of 4 trials is worth" in lines[1]
    other = selection_lines(study.plan, study.history, {**end, "chosen": "t0000"})[0]
    assert other == "Selected  t0001: the best after t0000, which could not be refitted"
    assert ", threshold 0." in lines[2]


def test_the_help_names_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["select", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert ", ".join(CRITERIA) in said
    assert f"default: {MARGIN}" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--margin", "-1"), "--margin -1.0: not a difference; give 0 or more"),
        (("--margin", "nan"), "--margin nan: not a difference"),
        (("--repeats", "21"), "--repeats: 21 is outside 0 to 20; give such a number"),
        (("--ensemble", "--repeats", "0"), "--repeats 0: an ensemble is of a fresh seed's"),
        (("--threshold-by", "luck"), "--threshold-by luck: give one of balanced_accuracy, f1,"),
    ],
)
def test_mistakes_are_told_in_one_line(
    study: Study, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    place = str(Path(study.folder.address).parent)
    assert run(["select", "chosen", "--studies", place, *words]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
