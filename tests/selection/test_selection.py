"""The champion: the fastest of the trials that are tied with the best."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from raysearch.analysis.search_figures import study_figures
from raysearch.analysis.trial_replay import replay_trial
from raysearch.errors import StudyError
from raysearch.search.engine.reporter import fold_report
from raysearch.search.journal.history import Trial
from raysearch.search.study.fold_scores import OutOfFold, encode_fold_epoch_scores, out_of_fold
from raysearch.search.study.study import Study
from raysearch.search.study.trial_data import WORKER_CACHE, train_config
from raysearch.selection.paired_bootstrap import PatientReplicates
from raysearch.selection.selection import SearchReplicates, Selection, select
from raysearch.training.fold_training import ValidationScores
from raysearch.training.loop import FoldEpoch, probabilities, train
from raysearch.training.training_data import TrainingData
from support.result_studies import new_study, next_searched
from support.scored_trials import TREE, four_trials_study, record_noisy_trial


@pytest.fixture
def study(shards: Path, tmp_path: Path) -> Study:
    return four_trials_study(shards, tmp_path / "studies" / "chosen")


def scores_of(study: Study, trial: str) -> OutOfFold:
    return out_of_fold(study.folder, study.plan, study.history.trials[trial])


def inference_ms_by_trial(selection: Selection) -> dict[str, float | None]:
    return {candidate.trial.id: candidate.inference_ms for candidate in selection.candidates}


def test_the_fastest_of_the_tied_trials_is_selected(study: Study) -> None:
    selection = select(study.folder, study.plan, study.history, 0.01)
    assert {candidate.trial.id for candidate in selection.tied} == {"t0000", "t0001"}
    assert selection.chosen.id == "t0001"
    assert selection.order[0] is selection.chosen
    assert len(set(map(id, selection.order))) == 4
    objectives = [candidate.objective.value for candidate in selection.candidates]
    assert objectives == sorted(objectives, reverse=True)  # type: ignore[type-var]
    for candidate in selection.candidates:
        scores = scores_of(study, candidate.trial.id)
        auroc = roc_auc_score(scores.labels, scores.probabilities[:, 1])
        assert candidate.objective.value == pytest.approx(auroc, abs=1e-9)
        assert selection.candidate_of(candidate.trial) is candidate
    assert selection.corrected.value is not None
    assert selection.corrected.low is not None


def test_equal_networks_have_one_time_and_views_multiply_it(study: Study) -> None:
    selection = select(study.folder, study.plan, study.history)
    times = {"t0000": 5.0, "t0001": 2.05, "t0002": 2.05, "t0003": 1.0}
    assert inference_ms_by_trial(selection) == times
    trial = study.history.trials["t0001"]
    trial.hparams = {**trial.hparams, "tta": "dihedral"}
    selection = select(study.folder, study.plan, study.history, 0.01)
    assert inference_ms_by_trial(selection)["t0001"] == 8 * 2.05
    assert selection.chosen.id == "t0000"


def test_without_times_the_best_trial_is_selected(study: Study) -> None:
    for trial in study.history.searched():
        trial.reports = [replace(report, inference_ms=None) for report in trial.reports]
    selection = select(study.folder, study.plan, study.history, 0.01)
    assert selection.chosen is selection.candidates[0].trial


def test_rungs_are_repeated_with_as_many_promoted_trials(shards: Path, tmp_path: Path) -> None:
    study = new_study(shards, tmp_path / "studies" / "rungs", TREE)
    for noise in (2.0, 1.0, 3.0, 0.5):
        record_noisy_trial(study, next_searched(study), shards, noise)
    replicates = PatientReplicates.sample(scores_of(study, "t0000").patients, 50, 0)
    rungs = SearchReplicates(study.folder, study.plan, study.history, replicates).rungs()
    recorded = [rung for _level, rung in sorted(study.history.rungs.items())]
    assert [len(rung.trials) for rung in rungs] == [len(rung.values) for rung in recorded]
    num_promoted = sum(trial.epoch > 1 for trial in study.history.searched())
    assert rungs[0].num_promoted == num_promoted < 4
    assert all(rung.objectives.shape == (len(rung.trials), 50) for rung in rungs)
    select(study.folder, study.plan, study.history)


def test_a_fold_without_a_patient_in_a_replicate_is_left_out_of_its_mean(
    shards: Path, tmp_path: Path
) -> None:
    tree = {**TREE, "objective": {"metric": "accuracy", "mode": "max"}}
    study = new_study(shards, tmp_path / "studies" / "few", tree)
    record_noisy_trial(study, next_searched(study), shards, 0.5)
    scores = scores_of(study, "t0000")
    names = np.unique(scores.patients)
    first_fold = np.unique(scores.patients[scores.folds == 0])
    without_first_fold = 1.0 * ~np.isin(names, first_fold)
    replicates = PatientReplicates(names, np.array([np.ones(12), np.ones(12), without_first_fold]))
    (rung, *_others) = SearchReplicates(study.folder, study.plan, study.history, replicates).rungs()
    assert np.isnan(rung.objectives).tolist() == [[False, True]]  # within the first fold
    original = replicates.first(1)
    (expected, *_others) = SearchReplicates(
        study.folder, study.plan, study.history, original
    ).rungs()
    assert rung.objectives[0, 0] == expected.objectives[0, 0]


def trained_study(shards: Path, place: Path) -> tuple[Study, dict[str, list[ValidationScores]]]:
    """Train a trial of one epoch and one of two; return the study and all validation scores."""
    tree = {
        "trials": 2,
        "stopping": {"rule": "none"},
        "points_to_evaluate": [{"epochs": 1}, {"epochs": 2}],
        "space": {"folds": 2, "width": 4, "batch_size": 32, "epochs": {"choice": [1, 2]}},
    }
    study = new_study(shards, place, tree)
    data = WORKER_CACHE.training_data(study.folder.address, study.plan.data, "cpu", 2, 1.0)
    threads, scores = torch.get_num_threads(), {}
    torch.set_num_threads(1)
    for trial in (next_searched(study), next_searched(study)):
        scores[trial.id] = train_trial(study, trial, data)
    torch.set_num_threads(threads)
    return study, scores


def train_trial(study: Study, trial: Trial, data: TrainingData) -> list[ValidationScores]:
    """Train a trial to its end, report it, and return its validation scores of each fold-epoch."""
    all_scores = []

    def record(fold_epoch: FoldEpoch, val_scores: ValidationScores, *_state: object) -> None:
        all_scores.append(val_scores)
        content = encode_fold_epoch_scores(fold_epoch, val_scores, data)
        report = replace(
            fold_report(trial.id, fold_epoch, None),
            host=socket.gethostname(),
            rung=study.policy.is_rung(trial, fold_epoch.epoch),
            scores=study.folder.write_scores(trial.id, fold_epoch.epoch, content),
        )
        study.report(report)

    config = train_config(study.plan, trial.hparams, trial.seed, torch.device("cpu"))
    train(config, data, record)
    return all_scores


def test_trials_of_one_and_two_epochs_are_compared_by_all_their_folds(
    shards: Path, tmp_path: Path
) -> None:
    study, all_scores = trained_study(shards, tmp_path / "studies" / "epochs")
    trials = study.history.done()
    assert [(trial.hparams["epochs"], trial.epoch) for trial in trials] == [(1, 2), (2, 4)]
    for trial in trials:
        epochs = int(trial.hparams["epochs"])
        scores = scores_of(study, trial.id)
        ends = all_scores[trial.id][epochs - 1 :: epochs]
        assert scores.rows.tolist() == np.concatenate([end.rows for end in ends]).tolist()
        assert sorted(scores.rows) == list(range(240))
        expected = probabilities(np.concatenate([end.logits for end in ends]))
        assert np.allclose(scores.probabilities, expected)
        fold_aurocs = [
            roc_auc_score(scores.labels[is_fold], scores.probabilities[is_fold, 1])
            for is_fold in (scores.folds == 0, scores.folds == 1)
        ]
        assert trial.objective == pytest.approx(np.mean(fold_aurocs))
        reported = [end.metrics["auroc"] for end in trial.fold_ends(epochs)]
        assert reported == pytest.approx(fold_aurocs)
    # Each is compared at the end of its own first fold.
    levels = [(level.epochs, level.epoch) for level in sorted(study.history.rungs)]
    assert levels == [(1, 1), (2, 2)]
    (figures,) = study_figures(study.plan, study.history)
    assert len(figures.parallel_coordinates.lines) == 2
    selection = select(study.folder, study.plan, study.history)
    best = selection.candidates[0].trial
    scores = scores_of(study, best.id)
    auroc = roc_auc_score(scores.labels, scores.probabilities[:, 1])
    assert selection.candidates[0].objective.value == pytest.approx(auroc)


def test_the_corrected_estimate_and_the_replay_train_each_trial_for_its_epochs(
    shards: Path, tmp_path: Path
) -> None:
    study, _scores = trained_study(shards, tmp_path / "studies" / "epochs")
    trials = study.history.done()
    scores = [scores_of(study, trial.id) for trial in trials]
    replicates = PatientReplicates.sample(scores[0].patients, 40, 0)
    search = SearchReplicates(study.folder, study.plan, study.history, replicates)
    objectives = np.array([replicates.metric("auroc", each) for each in scores])
    left_out = np.array([replicates.out_of_bag().metric("auroc", each) for each in scores])
    # Without a rule, each replicate selects the best of the patients that it draws.
    selected = [
        left_out[objectives[:, replicate].argmax(), replicate] for replicate in range(1, 41)
    ]
    estimate = search.corrected_estimate(trials, scores, objectives)
    assert estimate.value == pytest.approx(np.nanmean(selected))
    for trial in trials:
        replay = replay_trial(study.folder, trial.id, None, None, lambda _done, _total: None)
        assert [each.difference for each in replay.epochs] == [0.0] * trial.epoch


def test_a_study_without_a_finished_trial_is_rejected(shards: Path, tmp_path: Path) -> None:
    study = new_study(shards, tmp_path / "studies" / "none", TREE)
    with pytest.raises(StudyError, match="no trial that finished all its folds"):
        select(study.folder, study.plan, study.history)


def test_missing_scores_are_reported(study: Study) -> None:
    name = study.folder.scores("t0002", 4, study.history.trials["t0002"].score_hashes[4])
    study.folder.remove(name)
    with pytest.raises(StudyError, match=f"{name}: missing; restore it"):
        select(study.folder, study.plan, study.history)
