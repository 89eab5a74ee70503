"""Who is as good as the best, and what the best is worth without the luck of being chosen."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm

from raysearch.metrics.bootstrap import auroc_pairs, patient_weights, replicates
from raysearch.metrics.model_selection import (
    Rung,
    bias_corrected_estimate,
    compare_with_best,
    draws_for,
)

Floats = NDArray[np.float64]


def drawn_around(whole: Floats, spread: float, draws: int, shared: float = 0.0) -> Floats:
    """Objectives of draws: what all trials share, and what each has of its own."""
    draw = np.random.default_rng(0)
    common = shared * draw.normal(size=draws)
    return whole[:, None] + common + spread * draw.normal(size=(len(whole), draws))


def test_a_trial_is_tied_only_where_it_is_shown_not_to_be_worse() -> None:
    whole = np.array([0.9, 0.899, 0.89, 0.7])
    draws = draws_for(4)
    sharp = compare_with_best(whole, drawn_around(whole, 0.0005, draws, shared=0.05), 1.0)
    assert [one.tied for one in sharp] == [True, True, False, False]
    # Nothing can be shown of them: that is no tie.
    blunt = compare_with_best(whole, drawn_around(whole, 0.05, draws), 1.0)
    assert [one.tied for one in blunt] == [True, False, False, False]
    for one, value in zip(sharp[1:], whole[1:], strict=True):
        assert one.difference.value == pytest.approx(value - 0.9)
        assert one.difference.low is not None
        assert (one.difference.low > -0.005) == one.tied


def test_less_is_better_where_it_is() -> None:
    whole = np.array([0.31, 0.3, 0.4])
    found = compare_with_best(whole, drawn_around(whole, 0.0001, 2000, 0.1), -1.0, margin=0.02)
    assert [one.tied for one in found] == [True, True, False]
    assert found[1].difference.value == 0
    assert found[0].difference.value == pytest.approx(-0.01)


def test_many_trials_are_judged_more_strictly_than_one() -> None:
    draws = draws_for(60)
    assert draws * 0.025 / 59 >= 2
    few = np.array([0.9, 0.8985])
    many = np.array([0.9, 0.8985, *[0.8] * 58])
    ties = [
        compare_with_best(whole, np.vstack([drawn_around(few, 0.001, draws), others]), 1.0)[1]
        for whole, others in (
            (few, np.empty((0, draws))),
            (many, drawn_around(many[2:], 0.0001, draws)),
        )
    ]
    lows = [one.difference.low for one in ties]
    assert lows[0] is not None
    assert lows[1] is not None
    assert lows[1] < lows[0] - 0.001


def test_a_trial_of_which_no_draw_is_known_is_not_tied() -> None:
    whole = np.array([0.9, 0.9])
    [_best, other] = compare_with_best(whole, np.array([[0.9] * 5, [np.nan] * 5]), 1.0)
    assert not other.tied
    assert other.difference.low is None


def simulated(seed: int, spread: float, stop: bool) -> tuple[float, float, float]:
    """(what the best trial seems to be worth, the corrected estimate, its true AUROC).

    40 patients; the trials differ by `spread`, and with `stop` half of them never finish, by what
    their scores were, with more noise, at a rung.
    """
    patients, rows, trials, draws = 40, 12, 20, 300
    draw = np.random.default_rng(seed)
    owner = np.repeat(np.arange(patients), rows)
    labels = (draw.random(len(owner)) < draw.beta(1, 2, patients)[owner]).astype(np.int64)
    shared = draw.normal(0, 0.7, patients)[owner] + draw.normal(0, 1, len(owner))
    good = 2 + draw.normal(0, spread, trials)
    weights = patient_weights(patients, draws, 1)
    parts: tuple[list[Floats], list[Floats], list[Floats]] = ([], [], [])
    for one in good:
        own = draw.normal(0, 0.4, patients)[owner] + draw.normal(0, 0.5, len(owner))
        scores = one * labels + shared + own
        early = scores + draw.normal(0, 0.7, len(owner))
        pairs, before = (auroc_pairs(labels, given, owner) for given in (scores, early))
        every = np.concatenate([np.ones((1, patients)), weights, (weights == 0) * 1.0])
        found = replicates(pairs, every)
        parts[0].append(found[: draws + 1])
        parts[1].append(found[draws + 1 :])
        parts[2].append(replicates(before, every[: draws + 1]))
    drawn, left_out, early_drawn = (np.array(part) for part in parts)
    rungs = []
    if stop:
        rungs.append(Rung(np.arange(trials), early_drawn[:, 1:], trials // 2))
        drawn[np.argsort(-early_drawn[:, 0])[trials // 2 :]] = np.nan
    best = int(np.nanargmax(drawn[:, 0]))
    truth = norm.cdf(good[best] / np.sqrt(2 * (0.49 + 1 + 0.16 + 0.25)))
    estimate = bias_corrected_estimate(drawn[:, 1:], left_out, 1.0, rungs).value
    assert estimate is not None
    return float(drawn[best, 0]), estimate, float(truth)


@pytest.mark.parametrize("stop", [False, True])
@pytest.mark.parametrize("spread", [0.02, 0.1])
def test_the_corrected_estimate_is_that_of_the_truth(spread: float, stop: bool) -> None:
    found = np.array([simulated(seed, spread, stop) for seed in range(60)])
    lucky, corrected = (found[:, place] - found[:, 2] for place in (0, 1))
    error = corrected.std() / np.sqrt(len(found))
    assert lucky.mean() > 0.008
    assert abs(corrected.mean()) < 0.005 + 2 * error
    assert np.abs(corrected).mean() < np.abs(lucky).mean()


def test_a_draw_without_anybody_who_was_judged_at_a_rung_stops_nobody_there() -> None:
    drawn = np.array([[0.8, 0.8], [0.9, 0.9]])
    left_out = np.array([[0.7, 0.7], [0.5, 0.5]])
    rung = Rung(np.array([0, 1]), np.array([[np.nan, 0.6], [np.nan, 0.4]]), 1)
    # The second is best at the end; in the second draw it does not come there.
    assert bias_corrected_estimate(drawn, left_out, 1.0, [rung]).value == pytest.approx(
        (0.5 + 0.7) / 2
    )


def test_the_best_of_what_is_left_is_taken_where_a_draw_would_have_stopped_all() -> None:
    drawn = np.array([[0.8, 0.8], [np.nan, np.nan]])
    left_out = np.array([[0.7, 0.6], [np.nan, np.nan]])
    rung = Rung(np.array([0, 1]), np.array([[0.5, 0.5], [0.6, 0.4]]), 1)
    assert bias_corrected_estimate(drawn, left_out, 1.0, [rung]).value == pytest.approx(0.65)
    nothing = np.full((1, 3), np.nan)
    assert bias_corrected_estimate(nothing, nothing, 1.0).value is None
