"""What the patches of a patient say together."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysearch.metrics.by_patient import by_patient, diagnosed


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(1, 8), st.integers(1, 12))
def test_each_patient_is_that_of_its_own_rows(
    seed: int, rows: int, patients: int, top: int
) -> None:
    draw = np.random.default_rng(seed)
    owner = draw.integers(patients, size=rows).astype(np.str_)
    labels, scores = draw.integers(2, size=rows), np.round(draw.random(rows), 2)
    found = by_patient(labels, scores, owner, 0.4, confident=0.8, top=top)
    assert found.names.tolist() == sorted(set(owner.tolist()))
    for place, name in enumerate(found.names):
        mine = owner == name
        own = scores[mine]
        assert found.rows[place] == mine.sum()
        assert found.positive[place] == labels[mine].sum()
        assert found.labels[place] == labels[mine].max()
        assert found.mean[place] == pytest.approx(own.mean())
        assert found.top[place] == pytest.approx(np.sort(own)[::-1][:top].mean())
        assert found.above[place] == pytest.approx((own >= 0.4).mean())
        assert found.confident[place] == (own >= 0.8).sum()
    assert all(len(one) == len(found.names) for one in found.scores.values())
    true = found.positive / found.rows
    assert found.fraction_error() == pytest.approx(np.abs(found.above - true).mean())


def test_of_no_rows_there_is_no_patient() -> None:
    none = by_patient(np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.str_))
    assert len(none.names) == 0
    assert none.fraction_error() is None


def test_a_patient_is_called_ill_by_the_number_or_the_share_of_confident_patches() -> None:
    """Four ill patients of 100 rows with 0, 1, 4 and 30 confident ones, and a well one with 2."""
    confident = {"a": 0, "b": 1, "c": 4, "d": 30, "well": 2}
    owner = np.repeat(list(confident), 100)
    scores = np.concatenate(
        [np.r_[np.full(n, 0.96), np.zeros(100 - n)] for n in confident.values()]
    )
    labels = np.where(owner == "well", 0, 1)
    found = {one.rule: one for one in diagnosed(by_patient(labels, scores.ravel(), owner))}
    told = {rule: (one.found, one.ill, one.cleared, one.well) for rule, one in found.items()}
    assert told == {
        "1 or more": (3, 4, 0, 1),
        "3 or more": (2, 4, 1, 1),
        "10 or more": (1, 4, 1, 1),
        "1% or more": (3, 4, 0, 1),
        "5% or more": (1, 4, 1, 1),
        "20% or more": (1, 4, 1, 1),
    }
    exact = found["3 or more"].sensitivity
    assert (exact.low, exact.value, exact.high) == pytest.approx((0.0676, 0.5, 0.9324), abs=1e-4)
    nobody = diagnosed(by_patient(np.ones(3, np.int64), np.ones(3), np.full(3, "a")))[0]
    assert nobody.specificity.value is None
