"""Contradictory labels of one position are found."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from raysearch.data.audit.row_statistics import position_conflicts
from raysearch.data.shards.rows import load_rows


def test_two_labels_at_one_position_of_a_slide_are_a_conflict(shards: Path) -> None:
    rows = load_rows(str(shards))
    assert position_conflicts(rows) == ()
    negatives = np.flatnonzero(rows.labels == 0)[:3].tolist()
    positives = np.flatnonzero(rows.labels == 1)[:3].tolist()
    positions = np.full(len(rows.labels), np.nan)
    slides, magnifications = np.full(len(positions), "s"), np.full(len(positions), 40.0)
    positions[negatives + positives] = [1, 2, 3, 1, 2, 3]
    slides[negatives[1]] = "t"
    magnifications[negatives[2]] = np.nan
    located = replace(
        rows, xs=positions, ys=positions, slides=slides, magnifications=magnifications
    )
    assert position_conflicts(located) == (tuple(sorted((negatives[0], positives[0]))),)
