"""AUROC and average precision of many bootstrap replicates, from the rows in the order of scores.

The negatives of each interval of `ranking.score_intervals` and the positives of each of T scores
are counted once per patient. Their numbers in all replicates are the product of a sparse matrix
(intervals, patients) and the weights (patients, R), and both metrics are sums over these numbers.
For a class of few positives this is many times faster than the weighted rows of each replicate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from raysearch.metrics.bootstrap import Floats, Ints
from raysearch.metrics.ranking import (
    auroc_of_counts,
    average_precision_of_counts,
    score_intervals,
)

# Replicates are computed in batches: of so many, and of so many numbers at once.
BATCH_REPLICATES = 256
BATCH_CELLS = 8_000_000


@dataclass(frozen=True)
class RankCounts:
    """The rows of a class and of the others, by score and patient.

    Attributes:
        positives: Positives of each patient at each distinct score, sparse, (T, patients).
        negatives: Negatives of each patient in each interval, sparse, (2T + 1, patients). The
            intervals are those of `ranking`.
    """

    positives: Any
    negatives: Any

    def batches(self, weights: Floats) -> Iterator[tuple[Floats, Floats]]:
        """Count the rows of replicates, some replicates at a time.

        Args:
            weights: How often each replicate contains each patient, shape (R, patients).

        Yields:
            Positives (T, B) and negatives (2T + 1, B) of the next B replicates.
        """
        num_replicates = min(BATCH_REPLICATES, max(1, BATCH_CELLS // self.negatives.shape[0]))
        for start in range(0, len(weights), num_replicates):
            batch = np.ascontiguousarray(weights[start : start + num_replicates].T)
            yield self.positives @ batch, self.negatives @ batch


def count_ranks(
    positive: Ints, scores: Floats, patient_index: Ints, num_patients: int
) -> RankCounts:
    """Count the rows of each patient at the distinct scores of the positives and between them.

    Args:
        positive: 1 for a positive row, 0 for a negative one, shape (N,).
        scores: Scores that rise with the probability of a positive, shape (N,).
        patient_index: Number of each row's patient, shape (N,).
        num_patients: The number of patients.
    """
    from scipy.sparse import csr_array

    is_positive = positive == 1
    thresholds, score_index, intervals = score_intervals(is_positive, scores)

    def counts(places: Ints, patients: Ints, num_places: int) -> Any:
        entries = (np.ones(len(places)), (places, patients))
        return csr_array(entries, shape=(num_places, num_patients))

    return RankCounts(
        counts(score_index[is_positive], patient_index[is_positive], len(thresholds)),
        counts(intervals[~is_positive], patient_index[~is_positive], 2 * len(thresholds) + 1),
    )


def ranked_auroc_replicates(counts: RankCounts, weights: Floats) -> Floats:
    """Compute the AUROC (R,) of replicates; NaN if one has no positive or no negative row.

    Args:
        counts: The counted rows.
        weights: How often each replicate contains each patient, shape (R, patients).
    """
    return _by_batch(auroc_of_counts, counts, weights)


def average_precision_replicates(counts: RankCounts, weights: Floats) -> Floats:
    """Compute the average precision (R,) of replicates; NaN if one has rows of one class only.

    Args:
        counts: The counted rows.
        weights: How often each replicate contains each patient, shape (R, patients).
    """
    return _by_batch(average_precision_of_counts, counts, weights)


def _by_batch(
    metric: Callable[[Floats, Floats], Floats], counts: RankCounts, weights: Floats
) -> Floats:
    return np.concatenate([metric(*batch) for batch in counts.batches(weights)])
