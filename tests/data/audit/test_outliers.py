"""Robust z-scores do not depend on the outliers that they detect."""

import numpy as np

from raysearch.data.audit.outliers import robust_scores


def test_an_outlier_does_not_change_the_scores_of_other_rows() -> None:
    values = np.array([[1.0], [1.1], [0.9], [1.05], [0.95], [9.0]], np.float32)
    mask = np.ones(6, np.bool_)
    scores = robust_scores(values, mask)
    assert scores[-1] > 50
    assert scores[:-1].max() < 2
    mask[-1] = False
    assert robust_scores(values, mask)[-1] == 0
