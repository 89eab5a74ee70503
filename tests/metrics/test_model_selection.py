"""Ties with the best trial, and the bias-corrected estimate of the best trial."""

import numpy as np
import pytest
from scipy.stats import norm

from raysearch.metrics.bootstrap import (
    Floats,
    auroc_replicates,
    count_concordant_pairs,
    patient_weights,
)
from raysearch.metrics.model_selection import (
    RungReplicates,
    bias_corrected_estimate,
    compare_with_best,
    num_replicates_for,
)


def noisy_replicates(
    estimates: Floats, spread: float, num_replicates: int, shared: float = 0.0
) -> Floats:
    """Draw replicates with noise that all trials share, and noise of each trial."""
    generator = np.random.default_rng(0)
    common = shared * generator.normal(size=num_replicates)
    noise = spread * generator.normal(size=(len(estimates), num_replicates))
    return estimates[:, None] + common + noise


def test_a_trial_is_tied_only_if_it_is_shown_not_to_be_worse() -> None:
    estimates = np.array([0.9, 0.899, 0.89, 0.7])
    num_replicates = num_replicates_for(4)
    replicates = noisy_replicates(estimates, 0.0005, num_replicates, shared=0.05)
    precise = compare_with_best(estimates, replicates, "max")
    assert [comparison.tied for comparison in precise] == [True, True, False, False]
    # With large noise, no difference can be shown, and that is no tie.
    replicates = noisy_replicates(estimates, 0.05, num_replicates)
    imprecise = compare_with_best(estimates, replicates, "max")
    assert [comparison.tied for comparison in imprecise] == [True, False, False, False]
    for comparison, estimate in zip(precise[1:], estimates[1:], strict=True):
        assert comparison.difference.value == pytest.approx(estimate - 0.9)
        assert comparison.difference.low is not None
        assert (comparison.difference.low > -0.005) == comparison.tied


def test_the_smallest_objective_is_the_best_if_it_is_minimized() -> None:
    estimates = np.array([0.31, 0.3, 0.4])
    replicates = noisy_replicates(estimates, 0.0001, 2000, 0.1)
    comparisons = compare_with_best(estimates, replicates, "min", margin=0.02)
    assert [comparison.tied for comparison in comparisons] == [True, True, False]
    assert comparisons[1].difference.value == 0
    assert comparisons[0].difference.value == pytest.approx(-0.01)


def test_many_trials_need_a_higher_confidence_than_two() -> None:
    num_replicates = num_replicates_for(60)
    assert num_replicates * 0.025 / 59 >= 2
    two = np.array([0.9, 0.8985])
    sixty = np.array([0.9, 0.8985, *[0.8] * 58])
    two_replicates = noisy_replicates(two, 0.001, num_replicates)
    other_replicates = noisy_replicates(sixty[2:], 0.0001, num_replicates)
    low_of_two = compare_with_best(two, two_replicates, "max")[1].difference.low
    sixty_replicates = np.vstack([two_replicates, other_replicates])
    low_of_sixty = compare_with_best(sixty, sixty_replicates, "max")[1].difference.low
    assert low_of_two is not None
    assert low_of_sixty is not None
    assert low_of_sixty < low_of_two - 0.001


def test_a_trial_without_a_defined_replicate_is_not_tied() -> None:
    estimates = np.array([0.9, 0.9])
    replicates = np.array([[0.9] * 5, [np.nan] * 5])
    [_best, other] = compare_with_best(estimates, replicates, "max")
    assert not other.tied
    assert other.difference.low is None


def simulate(seed: int, spread: float, stop: bool) -> tuple[float, float, float]:
    """Return the apparent, the corrected and the true AUROC of the best trial of a search.

    The search has 40 patients. True AUROCs differ by `spread`. If `stop`, half of the trials are
    stopped at a rung by noisier scores.
    """
    num_patients, rows_per_patient, num_trials, num_replicates = 40, 12, 20, 300
    generator = np.random.default_rng(seed)
    patients = np.repeat(np.arange(num_patients), rows_per_patient)
    size = len(patients)
    positive_fraction = generator.beta(1, 2, num_patients)[patients]
    labels = (generator.random(size) < positive_fraction).astype(np.int64)
    shared = generator.normal(0, 0.7, num_patients)[patients] + generator.normal(0, 1, size)
    effects = 2 + generator.normal(0, spread, num_trials)
    drawn_weights = patient_weights(num_patients, num_replicates, 1)
    weights = np.concatenate(
        [np.ones((1, num_patients)), drawn_weights, (drawn_weights == 0) * 1.0]
    )
    replicates, out_of_bag, rung_objectives = [], [], []
    for effect in effects:
        noise = generator.normal(0, 0.4, num_patients)[patients] + generator.normal(0, 0.5, size)
        scores = effect * labels + shared + noise
        early_scores = scores + generator.normal(0, 0.7, size)
        pairs, early_pairs = (
            count_concordant_pairs(labels, values, patients) for values in (scores, early_scores)
        )
        values = auroc_replicates(pairs, weights)
        replicates.append(values[: num_replicates + 1])
        out_of_bag.append(values[num_replicates + 1 :])
        rung_objectives.append(auroc_replicates(early_pairs, weights[: num_replicates + 1]))
    objectives, early = np.array(replicates), np.array(rung_objectives)
    rungs = []
    if stop:
        rungs.append(RungReplicates(np.arange(num_trials), early[:, 1:], num_trials // 2))
        objectives[np.argsort(-early[:, 0])[num_trials // 2 :]] = np.nan
    best = int(np.nanargmax(objectives[:, 0]))
    truth = norm.cdf(effects[best] / np.sqrt(2 * (0.49 + 1 + 0.16 + 0.25)))
    corrected = bias_corrected_estimate(objectives[:, 1:], np.array(out_of_bag), "max", rungs).value
    assert corrected is not None
    return float(objectives[best, 0]), corrected, float(truth)


@pytest.mark.parametrize("stop", [False, True])
@pytest.mark.parametrize("spread", [0.02, 0.1])
def test_the_corrected_estimate_is_close_to_the_truth(spread: float, stop: bool) -> None:
    results = np.array([simulate(seed, spread, stop) for seed in range(60)])
    apparent_errors = results[:, 0] - results[:, 2]
    corrected_errors = results[:, 1] - results[:, 2]
    standard_error = corrected_errors.std() / np.sqrt(len(results))
    assert apparent_errors.mean() > 0.008
    assert abs(corrected_errors.mean()) < 0.005 + 2 * standard_error
    assert np.abs(corrected_errors).mean() < np.abs(apparent_errors).mean()


def test_a_replicate_with_undefined_objectives_at_a_rung_stops_no_trial_there() -> None:
    replicates = np.array([[0.8, 0.8], [0.9, 0.9]])
    out_of_bag = np.array([[0.7, 0.7], [0.5, 0.5]])
    rung = RungReplicates(np.array([0, 1]), np.array([[np.nan, 0.6], [np.nan, 0.4]]), 1)
    # The second trial is the best at the end; the second replicate stops it at the rung.
    estimate = bias_corrected_estimate(replicates, out_of_bag, "max", [rung])
    assert estimate.value == pytest.approx((0.5 + 0.7) / 2)


def test_the_best_finished_trial_is_selected_if_a_replicate_stops_all_of_them() -> None:
    replicates = np.array([[0.8, 0.8], [np.nan, np.nan]])
    out_of_bag = np.array([[0.7, 0.6], [np.nan, np.nan]])
    rung = RungReplicates(np.array([0, 1]), np.array([[0.5, 0.5], [0.6, 0.4]]), 1)
    estimate = bias_corrected_estimate(replicates, out_of_bag, "max", [rung])
    assert estimate.value == pytest.approx(0.65)
    undefined = np.full((1, 3), np.nan)
    assert bias_corrected_estimate(undefined, undefined, "max").value is None
