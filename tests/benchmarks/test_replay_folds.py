"""The benchmark of folds: its noise hangs on a seed, and its arms count fold-epochs alike."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from replay import budgets, folds
from replay.clock import Config, simulate
from replay.curves import EPOCHS, Ranges, draw
from replay.raysearch_method import space

RANGES: Ranges = {
    "batch_size": ("int", 16, 512, True),
    "learning_rate": ("float", 1e-4, 1e-1, True),
}
NOISE = folds.Noise(common=6.0, own=3.0, epoch=0.5)


def drawn(config: Config) -> tuple[np.ndarray, np.ndarray]:
    """A curve that levels off, the higher the nearer the learning rate is to .01."""
    epochs = np.arange(1, EPOCHS + 1)
    best = 90 - 15 * abs(math.log10(config["learning_rate"]) + 2)
    return 2.0 * epochs, best * (1 - np.exp(-epochs / 8))


def test_the_noise_of_a_fold_hangs_on_the_seed_and_the_configuration_alone() -> None:
    one, other = draw(RANGES, 2, 0)
    here, again = folds.Folds(drawn, NOISE, 1), folds.Folds(drawn, NOISE, 1)
    again.noisy(other)  # what was asked before does not matter
    np.testing.assert_array_equal(here.noisy(one), again.noisy({"folds": 5, **one}))
    assert (here.noisy(one) != folds.Folds(drawn, NOISE, 2).noisy(one)).all()
    assert here.truth(one) == drawn(one)[1][-1]


def test_the_noise_is_as_wide_as_it_is_said_and_the_common_part_is_common() -> None:
    configs, common, own, epoch = draw(RANGES, 40, 0), [], [], []
    for seed in range(30):
        replayed = folds.Folds(drawn, NOISE, seed)
        noise = np.array([replayed.noisy(one) - drawn(one)[1] for one in configs])
        common.append(noise.mean(axis=(0, 2)))
        own.append((noise.mean(axis=2) - common[-1]).std())
        epoch.append((noise - noise.mean(axis=2, keepdims=True)).std())
    assert np.std(common) == pytest.approx(6.0, rel=0.2)
    assert np.mean(own) == pytest.approx(3.0, rel=0.05)
    assert np.mean(epoch) == pytest.approx(0.5, rel=0.05)


def test_both_arms_see_the_same_folds_and_pay_the_same_for_all_of_them() -> None:
    (config,) = draw(RANGES, 1, 0)
    replayed = folds.Folds(drawn, NOISE, 1)
    seconds, objective = replayed.one_by_one(config)
    seconds_at_once, at_once = replayed.at_once(config)
    assert (len(seconds), len(seconds_at_once)) == (5 * EPOCHS, EPOCHS)
    assert (np.diff(seconds) > 0).all()
    assert seconds[-1] == seconds_at_once[-1] == 5 * 2.0 * EPOCHS
    noisy = replayed.noisy(config)
    np.testing.assert_allclose(objective[:EPOCHS], noisy[0])
    np.testing.assert_allclose(objective[EPOCHS], (noisy[0, -1] + noisy[1, 0]) / 2)
    assert objective[-1] == pytest.approx(at_once[-1])


@pytest.mark.parametrize("name", [folds.OURS, *folds.PEERS])
def test_an_arm_counts_the_epochs_of_every_fold(name: str) -> None:
    count = 1 if name == "all at once" else folds.FOLDS
    reported: list[int] = []

    class Counted(folds.Arm):
        def report(self, trial: str, epoch: int, value: float, seconds: float) -> bool:
            reported.append(epoch)
            return super().report(trial, epoch, value, seconds)

    replayed = folds.Folds(drawn, NOISE, 1)
    curve = replayed.one_by_one if count == folds.FOLDS else replayed.at_once
    arm = Counted(RANGES, 0, name, num_trainings=3)
    simulate(arm, curve, 4, math.inf)
    assert arm.spent == len(reported) * (1 if count == folds.FOLDS else 5)
    assert max(reported) == count * EPOCHS
    assert arm.later_fold_epochs == sum(epoch > EPOCHS for epoch in reported) or count == 1
    assert 0.25 * arm.spent < arm.later_fold_epochs <= 0.8 * arm.spent
    assert set(arm.champion) == {*RANGES, "folds"}


def test_what_is_needed_lies_between_the_budgets_that_were_tried() -> None:
    def found(level: float) -> float:
        return folds.needed_budget((2, 4, 8), np.array([0.9, 0.5, 0.6]), level)

    assert [found(level) for level in (1.0, 0.9, 0.7, 0.5)] == pytest.approx([2, 2, 3, 4])
    assert found(0.4) == math.inf


@pytest.mark.parametrize("name", [budgets.OURS, budgets.PEER])
def test_a_study_with_a_budget_spends_no_more_and_has_a_champion(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    replayed = folds.Folds(drawn, NOISE, 1, budgets.FOLDS, budgets.EPOCHS)
    study, reported = budgets.Study(space(RANGES, 0), name, num_trainings=4, grace_period=1), [0]
    report = study.report

    def counted(trial: str, epoch: int, value: float, seconds: float) -> bool:
        reported.append(epoch)
        return report(trial, epoch, value, seconds)

    monkeypatch.setattr(study, "report", counted)
    simulate(study, replayed.one_by_one, budgets.WORKERS, math.inf)
    assert max(reported) == budgets.FOLDS * budgets.EPOCHS
    assert len(reported) - 1 <= 4 * max(reported) + budgets.WORKERS
    finished, begun = study.counts
    assert finished >= 1
    assert begun <= 5 if name == budgets.PEER else begun > finished
    assert set(study.champion) == {*RANGES, "folds"}


def test_a_short_training_ends_where_the_whole_curve_does() -> None:
    (config,) = draw(RANGES, 1, 0)
    quiet = folds.Folds(drawn, folds.Noise(0, 0, 0), 1, folds=3, epochs=6)
    seconds, objective = quiet.one_by_one(config)
    whole_s, whole = drawn(config)
    assert (len(seconds), len(objective)) == (18, 18)
    assert objective[[5, -1]] == pytest.approx([whole[-1], whole[-1]])
    assert seconds[[5, -1]] == pytest.approx([whole_s[-1], 3 * whole_s[-1]])
    assert objective[0] == whole[8]


def test_a_schedule_is_behind_at_first_and_ahead_in_the_end() -> None:
    (config,) = draw(RANGES, 1, 0)
    quiet = budgets.Scheduled(drawn, folds.Noise(0, 0, 0), 1, spread=0.1)
    plain, late = ({**config, "schedule": name} for name in budgets.SCHEDULES.values)
    assert quiet.truth(plain) == folds.Folds(drawn, NOISE, 1).truth(config)
    assert quiet.truth(late) == pytest.approx(quiet.truth(plain) + 0.015)
    gap = quiet.noisy(late) - quiet.noisy(plain)
    assert gap.shape == (budgets.FOLDS, budgets.EPOCHS)
    assert gap[0] == pytest.approx([-0.215, -0.055, -0.035, -0.015, 0.005, 0.015])
