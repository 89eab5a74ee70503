"""Building the champion: the next trial is tried if a training fails, nothing is trained twice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from raysearch.champion import build
from raysearch.champion.build import BuiltChampion, build_champion, run_repeats
from raysearch.champion.repeat_result import RepeatResult
from raysearch.data.step_progress import StepCallback
from raysearch.errors import StudyError
from raysearch.metrics.interval import Interval
from raysearch.metrics.model_selection import PairedComparison
from raysearch.search.journal.history import Trial
from raysearch.search.study.study import Study
from raysearch.selection.decision_rule import SelectionOptions
from raysearch.selection.selection import Candidate, Selection
from raysearch.training.failures import TrainingFailedError
from support.champion_studies import study_with_champion, study_with_started_trial, train_repeat

INTERVAL = Interval(0.8, 0.85, 0.9)
REFIT = SelectionOptions(kind="refit")
ENSEMBLE = SelectionOptions(kind="ensemble", repeats=2)


@pytest.fixture
def study(shards: Path, tmp_path: Path) -> Study:
    """A study with the trials `t0000` and `t0001`."""
    study = study_with_started_trial(shards, tmp_path / "studies" / "built")
    study.start("t0001", "trial", study.history.trials["t0000"].hparams)
    return study


def selection_of(*trials: Trial) -> Selection:
    """A selection that chose the first of `trials`, the best first."""
    comparison = PairedComparison(Interval(0, 0, 0), tied=True)
    candidates = tuple(Candidate(trial, INTERVAL, comparison, None) for trial in trials)
    return Selection(candidates, trials[0], INTERVAL, 0.005, 100, 12)


def ignore_status(_text: str) -> None:
    pass


def test_a_failed_refit_is_followed_by_that_of_the_next_trial(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = study.history.trials.values()
    texts: list[str] = []

    def refit(_study: Study, trial: Trial, _on_progress: StepCallback) -> None:
        if trial is first:
            raise TrainingFailedError("nan-loss")

    monkeypatch.setattr(build, "refit", refit)
    built = build_champion(study, selection_of(first, second), REFIT, texts.append)
    assert built == BuiltChampion(second)
    assert study.history.selected == "t0001"
    assert texts == [f"refitting {trial} on all patients" for trial in ("t0000", "t0001")]
    with pytest.raises(StudyError, match="the refit of each of its 1 finished trials failed"):
        build_champion(study, selection_of(first), REFIT, ignore_status)


def test_a_stored_refit_is_not_trained_again(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = study_with_champion(shards, tmp_path / "studies" / "first")
    monkeypatch.delattr(build, "refit")
    (trial,) = study.history.done()
    study.history.selected = None
    built = build_champion(study, selection_of(trial), REFIT, ignore_status)
    assert built == BuiltChampion(trial)
    assert study.history.selected == trial.id


def test_the_first_repeat_that_did_not_fail_gives_the_ensemble(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = study.history.trials.values()

    def train(study: Study, trial: Trial, seeds: Sequence[int], *_: object, networks: bool) -> None:
        assert networks
        failed = seeds if trial is first else seeds[:1]
        for seed in failed:
            study.record_repeat_failure(trial, seed, "nan-loss")
        for seed in set(seeds) - set(failed):
            train_repeat(study, trial, seed)

    monkeypatch.setattr(build, "train_repeats", train)
    built = build_champion(study, selection_of(first, second), ENSEMBLE, ignore_status)
    assert built.trial is second
    assert study.history.selected == "t0001"
    failed, finished = built.repeats
    assert failed == RepeatResult(failed.seed, None, "nan-loss")
    assert built.repeat_seed == finished.seed
    assert finished.objective is not None
    with pytest.raises(StudyError, match="all repeats of each of its 1 finished trials failed"):
        build_champion(study, selection_of(first), ENSEMBLE, ignore_status)


def test_the_interval_of_a_repeat_contains_its_objective(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = study.history.trials["t0000"]

    def train(study: Study, trial: Trial, seeds: Sequence[int], *_: object, networks: bool) -> None:
        assert not networks
        for seed in seeds:
            train_repeat(study, trial, seed)

    monkeypatch.setattr(build, "train_repeats", train)
    (result,) = run_repeats(study, trial, SelectionOptions(repeats=1), 200, ignore_status)
    interval = result.objective
    assert interval is not None
    assert interval.low is not None
    assert interval.value is not None
    assert interval.high is not None
    assert interval.low <= interval.value <= interval.high
