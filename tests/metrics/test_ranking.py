from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from raysearch.metrics.ranking import ranking_metrics

# Few values, so that scores of both classes are equal.
SCORES = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0])


@given(st.lists(st.tuples(st.booleans(), SCORES), min_size=2, max_size=40))
def test_both_metrics_are_those_of_scikit_learn(rows: list[tuple[bool, float]]) -> None:
    positive = np.array([row[0] for row in rows])
    scores = np.array([row[1] for row in rows])
    auroc, average_precision = ranking_metrics(positive, scores)
    if positive.all() or not positive.any():
        assert math.isnan(auroc)
        assert math.isnan(average_precision)
        return
    assert auroc == pytest.approx(sk.roc_auc_score(positive, scores), abs=1e-12)
    assert average_precision == pytest.approx(
        sk.average_precision_score(positive, scores), abs=1e-12
    )


def test_scores_of_single_precision_rank_as_scikit_learn_ranks_them() -> None:
    rng = np.random.default_rng(3)
    positive = rng.random(5000) < 0.2
    scores: Any = (rng.normal(size=5000) + positive).astype(np.float32)
    auroc, average_precision = ranking_metrics(positive, scores)
    assert auroc == pytest.approx(sk.roc_auc_score(positive, scores), abs=1e-12)
    assert average_precision == pytest.approx(
        sk.average_precision_score(positive, scores), abs=1e-12
    )


def test_labels_may_be_numbers_and_rows_may_be_missing() -> None:
    labels: Any = np.array([1, 0, 1, 0])
    assert ranking_metrics(labels, np.array([0.9, 0.1, 0.8, 0.2])) == (1.0, 1.0)
    no_labels: Any = np.array([], dtype=bool)
    assert np.isnan(ranking_metrics(no_labels, np.array([]))).all()


def test_a_score_that_is_no_number_is_rejected() -> None:
    with pytest.raises(ValueError, match="NaN"):
        ranking_metrics(np.array([True, False]), np.array([0.1, np.nan]))


def test_metrics_of_a_trial_need_no_slow_library() -> None:
    """The workers of trials compute them after each epoch."""
    script = (
        "import sys, numpy as np\n"
        "from raysearch.metrics.classification import classification_metrics\n"
        "scores = np.array([[0.2, 0.8], [0.7, 0.3]])\n"
        "assert classification_metrics(np.array([1, 0]), scores, ('a', 'b'))['auroc'] == 1\n"
        "assert not {'sklearn', 'scipy'} & set(sys.modules), 'imported'\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
