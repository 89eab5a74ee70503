"""The scores that `raysearch predict` writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

COLUMNS = [
    *("path", "patient", "x", "y", "label", "class", "probability", "decision"),
    *("score_negative", "score_positive"),
]


def read_scores(folder: Path) -> NDArray[np.float64]:
    """Read the probabilities (N, 2) in `folder`, in the order of the patches' x positions."""
    table = pq.read_table(folder / "scores.parquet")
    assert table.column_names == COLUMNS
    order = np.argsort(table["x"].to_numpy())
    return np.column_stack([table[name].to_numpy()[order] for name in COLUMNS[-2:]])
