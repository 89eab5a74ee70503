"""The costs of trials of which some are cheap."""

from __future__ import annotations

import numpy as np

from raysearch.search.scheduling.cheap_trials import cheap_limit, relative_costs


def test_trials_are_cheap_if_they_cost_a_tenth_of_all_others() -> None:
    seconds = np.array([600.0, 2.0, 300.0, 3.0, 1200.0])
    limit = cheap_limit(np.log(seconds))
    assert limit is not None
    assert 3 < np.exp(limit) < 300
    assert cheap_limit(np.log(np.array([30.0, 100.0, 300.0, 900.0]))) is None
    assert cheap_limit(np.log(np.array([30.0, 299.0]))) is None
    assert cheap_limit(np.array([1.0])) is None


def test_the_advantage_of_cheap_trials_shrinks_with_their_number() -> None:
    log_seconds = np.array([0.0, 2.0, 10.0, 14.0])
    assert relative_costs(log_seconds, None, 0).tolist() == [-6.5, -4.5, 3.5, 7.5]
    for num_cheap in (0, 40):
        assert relative_costs(log_seconds, 6.0, num_cheap).tolist() == [-6.5, -4.5, 3.5, 7.5]
    assert relative_costs(log_seconds, 6.0, 80).tolist() == [-3.75, -1.75, 0.75, 4.75]
    many = relative_costs(log_seconds, 6.0, 10**6)
    assert np.allclose(many, [-1, 1, -2, 2], atol=0.001)
