"""What the patches of a patient say together."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysearch.scores.patients import by_patient


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
    assert found.share_error() == pytest.approx(np.abs(found.above - true).mean())


def test_of_no_rows_there_is_no_patient() -> None:
    none = by_patient(np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.str_))
    assert len(none.names) == 0
    assert none.share_error() is None
