"""Whole studies decided without Ray: what a course decides, it decides again from its journal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ray.tune.schedulers import AsyncHyperBandScheduler

from raysearch.config.space import Budget, Hyperparameter, Rule, Sampling, Space, Stopping
from raysearch.search.journal.history import Trial
from raysearch.search.journal.journal import Event
from raysearch.search.scheduling.policy import SearchPolicy

SPACE = Space(
    hparams=(
        Hyperparameter("optimizer", "choice", ("adamw", "sgd")),
        Hyperparameter("momentum", "uniform", (0.5, 0.9), (("optimizer", ("sgd",)),)),
        Hyperparameter("learning_rate", "loguniform", (1e-4, 1e-1)),
        Hyperparameter("folds", "fixed", (3,)),
    ),
    metric="auroc",
    mode="max",
    epochs=6,
    trials=12,
    seed=0,
    stopping=Stopping(1, 3, "asha"),
    sampling=Sampling("random"),
)
SLOTS = 3


class Player:
    """Plays a study on `SLOTS` workers, which lose trials, and whose launcher is killed."""

    def __init__(self, space: Space, seed: int, errors: float = 0.0) -> None:
        self.policy = SearchPolicy(space)
        self.events: list[Event] = []
        self._draw = np.random.default_rng(seed)
        self._errors = errors
        self._busy: list[Trial] = []
        self._lost: list[str] = []
        self._now = 0.0

    def play(self) -> list[Event]:
        """The events of the whole study."""
        for _turn in range(5000):
            while len(self._busy) < SLOTS and (trial := self._next()) is not None:
                self._busy.append(trial)
            if not self._busy:
                return self.events
            self._turn()
        pytest.fail("the study does not end")

    def _turn(self) -> None:
        draw = self._draw.random()
        if draw < self._errors / 3:  # the launcher is killed, and another goes on
            self._lost += [trial.id for trial in self._busy]
            self._busy = []
            self.policy = SearchPolicy(self.policy.space, self.events)
            self._happened({"event": "launch", "host": "x", "pid": 1})
            return
        trial = self._busy.pop(int(self._draw.integers(len(self._busy))))
        if draw < self._errors:
            self._lost.append(trial.id)
            return
        if draw > 1 - self._errors / 4:
            self._happened(
                {"event": "end", "trial": trial.id, "status": "failed", "reason": "nan-loss"}
            )
            return
        self._report(trial)
        if trial.status == "running":
            self._busy.append(trial)

    def _report(self, trial: Trial) -> None:
        epoch, epochs = trial.epoch + 1, self.policy.space.epochs
        value = quality(trial.hparams) + 0.02 * (epoch % epochs) + self._draw.normal(0, 0.02)
        self._happened(
            {
                "event": "report",
                "trial": trial.id,
                "epoch": epoch,
                "fold": (epoch - 1) // epochs,
                "objective": value,
                "metrics": {"auroc": value},
                "seconds": 1.0,
                "rung": self.policy.is_rung(trial, epoch),
            }
        )
        event = self.policy.decision(trial)
        if event is not None:
            self._happened(event)
        if self.policy.over() is not None:
            for one in (*self.policy.history.running(), *self.policy.history.paused()):
                self._happened(self.policy.last_of(one))
            self._busy, self._lost = [], []

    def _next(self) -> Trial | None:
        if self._lost:
            return self.policy.history.trials[self._lost.pop(0)]
        event = self.policy.next()
        if event is None:
            return None
        self._happened(event)
        return self.policy.history.trials[event["trial"]]

    def _happened(self, event: Event) -> None:
        self._now += 1.0
        self.events.append({"n": len(self.events), "at": self._now, **event})
        self.policy.take(self.events[-1])


def quality(hparams: Mapping[str, Any]) -> float:
    rate = float(hparams["learning_rate"])
    return float(0.9 - abs(np.log10(rate) + 2.5) / 10 - 0.05 * (hparams.get("optimizer") == "sgd"))


def decided(space: Space, events: list[Event]) -> Iterator[tuple[Event, Event | None]]:
    """Each decision in `events`, and what a course that knows those before it decides."""
    policy, over = SearchPolicy(space), False
    for event in events:
        if event["event"] == "trial" or event["event"] == "promote":
            yield event, policy.next()
        elif event["event"] in ("pause", "end") and event.get("status") != "failed":
            trial = policy.history.trials[event["trial"]]
            over = over or policy.over() is not None
            if not over:  # all that is open ends with the budget, whatever its reports
                yield event, policy.decision(trial)
            elif trial.epoch < policy.whole(trial) and not trial.reports:
                yield event, policy.last_of(trial)
        policy.take(event)


def variant(seed: int, rule: Rule, sampler: str) -> Space:
    """A space that differs by `seed` in its rungs, folds, budget and seed."""
    draw = np.random.default_rng(seed)
    folds = (
        Hyperparameter("folds", "choice", (2, 3))
        if draw.random() < 0.3
        else Hyperparameter("folds", "fixed", (5,))
    )
    return replace(
        SPACE,
        hparams=(*SPACE.hparams[:-1], folds),
        epochs=int(draw.integers(1, 8)),
        trials=int(draw.integers(1, 16)),
        seed=seed,
        mode="max" if draw.random() < 0.7 else "min",
        stopping=Stopping(1, int(draw.integers(2, 4)), rule, int(draw.integers(0, 5)), 0.1),
        sampling=Sampling(sampler),
        budget=Budget(
            fold_epochs=int(draw.integers(40, 200)) if draw.random() < 0.3 else None,
            no_improvement=4 if draw.random() < 0.2 else None,
        ),
    )


def check_decisions_come_again(space: Space, seed: int) -> int:
    events = Player(space, seed, errors=0.15).play()
    count = 0
    for happened, again in decided(space, events):
        assert again is not None, happened
        assert {**happened, **again} == happened
        count += 1
    reports = [(one["trial"], one["epoch"]) for one in events if one["event"] == "report"]
    assert len(reports) == len(set(reports))
    begun = [one["trial"] for one in events if one["event"] == "trial"]
    assert len(begun) == len(set(begun)) <= space.trials
    return count


RULES: tuple[Rule, ...] = ("asha", "promotion", "none")


@pytest.mark.parametrize("rule", RULES)
def test_a_journal_decides_the_same_again(rule: Rule) -> None:
    for seed in range(10):
        check_decisions_come_again(variant(seed, rule, "random"), seed)


@pytest.mark.parametrize("sampler", ["tpe", "gp", "qmc", "grid"])
def test_every_sampler_proposes_the_same_again(sampler: str) -> None:
    check_decisions_come_again(variant(3, "promotion", sampler), 3)


def test_the_forest_decides_the_same_again() -> None:
    for seed in range(3):
        check_decisions_come_again(variant(seed, "forest", "forest"), seed)


@pytest.mark.slow
def test_a_thousand_journals_with_losses_kills_and_resumes_decide_the_same_again() -> None:
    count = 0
    for seed in range(960):
        count += check_decisions_come_again(variant(seed, RULES[seed % 3], "random"), seed)
    for seed in range(40):
        count += check_decisions_come_again(variant(seed, "forest", "forest"), seed)
    assert count > 10_000


def test_a_study_stops_and_finishes_what_rays_asha_would() -> None:
    space = replace(
        SPACE,
        hparams=(*SPACE.hparams[:-1], Hyperparameter("folds", "fixed", (1,))),
        epochs=20,
        trials=40,
    )
    events = Player(space, 5).play()
    scheduler = AsyncHyperBandScheduler(
        time_attr="epoch",
        metric="objective",
        mode="max",
        max_t=20,
        grace_period=1,
        reduction_factor=3,
    )
    trials: dict[str, Any] = {}
    said: dict[str, int] = {}
    for event in events:
        if event["event"] == "trial":
            trials[event["trial"]] = SimpleNamespace(trial_id=event["trial"])
            scheduler.on_trial_add(None, trials[event["trial"]])
        if event["event"] == "report":
            told = {"epoch": event["epoch"], "objective": event["objective"]}
            if scheduler.on_trial_result(None, trials[event["trial"]], told) == "STOP":
                said[event["trial"]] = event["epoch"]
    ends = {one["trial"]: one for one in events if one["event"] == "end"}
    history = SearchPolicy(space, events).history
    assert said == {name: history.trials[name].epoch for name in ends}
    assert {"stopped", "finished"} == {one["status"] for one in ends.values()}


def test_promotion_lets_the_best_wait_no_longer_than_it_takes_and_ends_with_a_champion() -> None:
    space = replace(SPACE, stopping=Stopping(1, 3, "promotion"), trials=20)
    policy = SearchPolicy(space, Player(space, 1).play())
    history = policy.history
    assert len(history.searched()) == 20
    assert history.done()
    assert not history.running()
    first = history.rungs[3, 1].values
    assert len(first) == 20
    gone_on = [one for one in history.searched() if one.epoch > 1]
    best = sorted(first, key=lambda name: -first[name])[:4]
    assert set(best) <= {one.id for one in gone_on}
    assert len(gone_on) <= 8


def test_trials_of_two_numbers_of_folds_share_no_rung() -> None:
    space = replace(
        SPACE, hparams=(*SPACE.hparams[:-1], Hyperparameter("folds", "choice", (2, 4))), trials=20
    )
    history = SearchPolicy(space, Player(space, 2).play()).history
    for (folds, _epoch), rung in history.rungs.items():
        assert {history.trials[name].folds for name in rung.values} == {folds}
    assert {folds for folds, _epoch in history.rungs} == {2, 4}


@pytest.mark.parametrize("rule", [*RULES, "forest"])
def test_a_budget_is_not_overspent_and_ends_with_a_champion(rule: Rule) -> None:
    for most in (40, 75):
        space = replace(
            SPACE, stopping=Stopping(1, 3, rule), budget=Budget(fold_epochs=most), trials=100
        )
        history = SearchPolicy(space, Player(space, 4).play()).history
        assert history.spent.fold_epochs <= most
        assert history.done(), (rule, most)
        assert not (*history.running(), *history.paused())


@pytest.mark.parametrize(
    ("rule", "seed", "most"),
    [("forest", 0, 50), ("forest", 2, 50), ("forest", 15, 50), ("promotion", 16, 70)],
)
def test_two_trials_that_overtake_each_other_do_not_spend_the_budget_on_none(
    rule: Rule, seed: int, most: int
) -> None:
    space = replace(
        SPACE, stopping=Stopping(3, 3, rule), budget=Budget(fold_epochs=most), trials=100, seed=seed
    )
    assert SearchPolicy(space, Player(space, seed).play()).history.done()


@pytest.mark.parametrize("rule", [*RULES, "forest"])
@pytest.mark.parametrize("budget", [Budget(), Budget(fold_epochs=40)])
def test_patience_does_not_end_the_last_that_can_still_finish(rule: Rule, budget: Budget) -> None:
    ended = 0
    for seed in range(8):
        stopping = Stopping(1, 3, rule, patience=1)
        space = replace(SPACE, stopping=stopping, budget=budget, trials=4, seed=seed)
        history = SearchPolicy(space, Player(space, seed).play()).history
        assert history.done(), (rule, seed)
        ended += sum(one.reason == "no improvement in 1 epochs" for one in history.searched())
    assert ended


def test_in_the_second_half_of_a_budget_what_waits_goes_before_what_is_new() -> None:
    begun = [0, 0]
    for seed in range(1, 4):
        space = replace(
            SPACE,
            stopping=Stopping(1, 3, "forest"),
            sampling=Sampling("forest"),
            budget=Budget(fold_epochs=150),
            trials=100,
            seed=seed,
        )
        policy = SearchPolicy(space)
        for event in Player(space, seed).play():
            if event["event"] == "trial":
                late = policy.history.spent.fold_epochs >= 75
                begun[late] += 1
                assert not late or policy.rule.pick(policy.history, may_begin=False) is None
            policy.take(event)
    assert begun[1] <= 0.15 * begun[0]


def test_where_a_budget_is_the_limit_more_trials_are_begun() -> None:
    begun = []
    for budget in (Budget(), Budget(fold_epochs=200)):
        space = replace(
            SPACE,
            stopping=Stopping(1, 3, "forest"),
            sampling=Sampling("forest"),
            budget=budget,
            trials=200,
        )
        policy = SearchPolicy(space)
        for event in Player(space, 1).play():
            policy.take(event)
            if policy.history.spent.fold_epochs == 100:
                break
        begun.append(len(policy.history.searched()))
    assert begun[1] > 1.2 * begun[0], begun


def test_each_value_of_a_choice_shows_what_it_is_worth_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Some schedules and optimizers are behind at first; what never ends is never known."""
    first = quality
    monkeypatch.setitem(
        globals(), "quality", lambda hparams: first(hparams) - 0.5 * (hparams["optimizer"] == "sgd")
    )
    for seed in range(3):
        space = replace(
            SPACE,
            stopping=Stopping(1, 3, "forest"),
            sampling=Sampling("forest"),
            trials=40,
            seed=seed,
        )
        policy, whole = SearchPolicy(space), {"adamw": 0, "sgd": 0}
        for event in Player(space, seed).play():
            policy.take(event)
            if event["event"] == "report" and event["epoch"] == space.epochs:
                whole[policy.history.trials[event["trial"]].hparams["optimizer"]] += 1
        assert 1 <= whole["sgd"] <= 2, whole  # once, or by two at the same time
        assert whole["adamw"] > 2, whole


def test_a_target_and_no_improvement_end_a_study() -> None:
    reached = replace(SPACE, budget=Budget(target=0.5), trials=100)
    policy = SearchPolicy(reached, Player(reached, 4).play())
    assert len(policy.history.done()) == 1
    assert policy.over() == "target 0.5 reached"
    level = replace(SPACE, budget=Budget(no_improvement=6), trials=200)
    policy = SearchPolicy(level, Player(level, 4).play())
    assert policy.over() == "no improvement in 6 trials"
    assert len(policy.history.searched()) < 200


def test_points_are_tried_first_and_what_they_leave_out_is_proposed() -> None:
    points = ((("optimizer", "sgd"), ("momentum", 0.8)), (("learning_rate", 0.003),))
    space = replace(SPACE, points=points, trials=4)
    first, second, third, _fourth = SearchPolicy(space, Player(space, 6).play()).history.searched()
    assert (first.hparams["optimizer"], first.hparams["momentum"]) == ("sgd", 0.8)
    assert 1e-4 <= first.hparams["learning_rate"] <= 1e-1
    assert second.hparams["learning_rate"] == 0.003
    assert third.hparams["learning_rate"] not in (0.003, first.hparams["learning_rate"])


def test_a_grid_is_walked_once() -> None:
    hparams = (
        Hyperparameter("optimizer", "choice", ("adamw", "sgd")),
        Hyperparameter("momentum", "uniform", (0.5, 0.9), (("optimizer", ("sgd",)),)),
        Hyperparameter("learning_rate", "loguniform", (1e-3, 1e-1)),
        Hyperparameter("folds", "fixed", (3,)),
    )
    space = replace(SPACE, hparams=hparams, sampling=Sampling("grid", (("steps", 3),)), trials=100)
    trials = SearchPolicy(space, Player(space, 7).play()).history.searched()
    assert len(trials) == 3 + 3 * 3
    assert len({str(one.hparams) for one in trials}) == len(trials)
    assert {round(one.hparams["learning_rate"], 6) for one in trials} == {0.001, 0.01, 0.1}
