"""The history of a study is rebuilt from its events."""

from dataclasses import replace

import pytest

from raysearch.config.space import Hyperparameter
from raysearch.errors import StudyError
from raysearch.search.journal.events import (
    ChampionDecision,
    ChampionSelected,
    Event,
    FoldReport,
    RepeatFailed,
    StudyLaunched,
    TrialEnded,
    TrialPaused,
    TrialPromoted,
    TrialsExtended,
    TrialStarted,
)
from raysearch.search.journal.history import History, finished, leaderboard
from raysearch.search.journal.rungs import RungKey
from support.simulated_studies import SPACE


def started(name: str) -> TrialStarted:
    return TrialStarted(name, "trial", {}, 1, 2)


def report(name: str, epoch: int, objective: float, *, rung: bool = True) -> FoldReport:
    return FoldReport(name, 0, epoch, objective, {}, 1.0, 2.0, rung=rung, dollars=0.5)


def test_a_trial_pauses_continues_and_ends() -> None:
    history = History([started("t0000"), report("t0000", 1, 0.5)])
    (trial,) = history.running()
    history.apply(TrialPaused("t0000"))
    assert history.paused() == [trial]
    assert history.rungs[RungKey(2, 1)].best_waiting("max") == "t0000"
    history.apply(TrialPromoted("t0000"))
    assert history.running() == [trial]
    assert history.rungs[RungKey(2, 1)].best_waiting("max") is None
    history.apply(TrialEnded("t0000", "finished", "all folds done", time=7.0))
    assert (trial.status, trial.reason, trial.ended, trial.end_rank) == (
        *("finished", "all folds done"),
        *(7.0, 0),
    )
    assert history.done() == finished(history, "max") == [trial]


def test_the_leaderboard_ranks_finished_trials_first() -> None:
    events: list[Event] = []
    for name, objective in (("t0000", 0.5), ("t0001", 0.7), ("t0002", 0.9), ("t0003", 0.6)):
        events += [started(name), report(name, 1, objective)]
    events += [TrialEnded(name, "finished", "") for name in ("t0000", "t0001")]
    events += [report("t0003", 2, 0.6), TrialEnded("t0002", "stopped", "")]
    events += [
        TrialEnded("t0003", "stopped", ""),
        started("t0004"),
        TrialEnded("t0004", "failed", ""),
    ]
    history = History(events)
    names = [trial.id for trial in leaderboard(history, SPACE)]
    assert names == ["t0001", "t0000", "t0003", "t0002", "t0004"]
    best = history.best(None, "max")
    assert best is not None
    assert best.id == "t0001"
    assert history.best(3, "max") is None


def test_the_leaderboard_compares_the_fractions_of_trials_of_different_lengths() -> None:
    """After four of 30 fold-epochs a trial is not ahead of one after three of six."""
    epochs = Hyperparameter("epochs", "choice", (3, 15))
    space = replace(SPACE, hparams=(*SPACE.hparams, epochs), epochs=15)
    events: list[Event] = []
    for name, num_epochs, num_reports in (("t0000", 15, 4), ("t0001", 3, 3), ("t0002", 15, 16)):
        events.append(TrialStarted(name, "trial", {"epochs": num_epochs}, 1, 2))
        events += [report(name, epoch, 0.5) for epoch in range(1, num_reports + 1)]
    history = History(events)
    assert [trial.id for trial in leaderboard(history, space)] == ["t0002", "t0001", "t0000"]
    assert [trial.id for trial in leaderboard(history, SPACE)] == ["t0002", "t0000", "t0001"]


def test_only_the_time_of_launchers_is_spent() -> None:
    history = History(
        [
            StudyLaunched("host", 1, time=100.0),
            TrialStarted("t0000", "trial", {}, 1, 2, time=101.0),
            FoldReport("t0000", 0, 1, 0.5, {}, 1.0, 2.0, dollars=0.5, time=110.0),
            StudyLaunched("host", 2, time=500.0),
            TrialStarted("benchmark", "benchmark", {}, 1, 2, time=501.0),
            FoldReport("benchmark", 0, 1, 0.5, {}, 1.0, 3.0, time=505.0),
        ]
    )
    assert history.spent.clock_s == pytest.approx(10.0 + 5.0)
    assert (history.spent.fold_epochs, history.spent.device_s) == (1, 5.0)
    assert history.spent.dollars == 0.5


def test_the_champion_and_its_repeats_are_part_of_the_history() -> None:
    decision = ChampionDecision(0.005, "refit", 1, 1.2, None, "f1", None, None)
    history = History([started("t0000"), TrialsExtended(20)])
    assert (history.champion, history.champion_decision) == (None, None)
    history.apply(ChampionSelected("t0000", decision, (0.5,)))
    history.apply(RepeatFailed("t0000", 11, "nan-loss"))
    assert (history.champion, history.champion_decision) == ("t0000", decision)
    assert history.repeat_objectives == (0.5,)
    assert history.repeat_failures == {("t0000", 11): "nan-loss"}
    assert history.planned(12) == 20


@pytest.mark.parametrize("epochs", ["ten", 0, True, 2.5])
def test_a_trial_with_impossible_epochs_is_rejected(epochs: str | float) -> None:
    with pytest.raises(StudyError, match="contradicts the events before it"):
        History([TrialStarted("t0000", "trial", {"epochs": epochs}, 1, 2)])
