"""Finds patients whose groups, such as slides, are on both sides of a fold (data leakage)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from raysearch.data.splits.split_manifest import SplitManifest
from raysearch.errors import DataError

MAX_NAMED = 10


def check_leaks(
    split_manifest: SplitManifest,
    groups: NDArray[np.str_],
    patients: NDArray[np.str_],
    allowed: Sequence[str],
) -> tuple[str, ...]:
    """Find the patients on both sides of a fold, or in both the test set and a fold.

    Args:
        split_manifest: The split manifest to check.
        groups: Group of each row, shape (N,).
        patients: Patient of each row, shape (N,).
        allowed: Patients that may be on both sides.

    Returns:
        One message for each such patient, sorted by patient; empty if the groups are patients.

    Raises:
        DataError: If such a patient is not among those `allowed`.
    """
    if split_manifest.by == "patient":
        return ()
    patients_by_group: dict[str, set[str]] = {}
    for group, patient in set(zip(groups.tolist(), patients.tolist(), strict=True)):
        patients_by_group.setdefault(group, set()).add(patient)
    leaks = _find_leaks(split_manifest, patients_by_group)
    not_allowed = sorted(set(leaks) - set(allowed))
    if not_allowed:
        raise DataError(
            f"{leaks[not_allowed[0]]}, and {len(not_allowed) - 1} more patients; group by patient,"
            f" or allow it with --allow-leak {','.join(not_allowed[:MAX_NAMED])}"
            + (",..." if len(not_allowed) > MAX_NAMED else "")
        )
    return tuple(leaks[patient] for patient in sorted(leaks))


def _find_leaks(
    split_manifest: SplitManifest, patients_by_group: Mapping[str, set[str]]
) -> dict[str, str]:
    """The message about the first leak of each patient that leaks."""

    def patients_of(groups: Sequence[str]) -> set[str]:
        return set().union(*(patients_by_group.get(group, set()) for group in groups))

    leaks: dict[str, str] = {}
    for scheme, number, fold in split_manifest.numbered_folds():
        for patient in patients_of(fold.train) & patients_of(fold.validation):
            leaks.setdefault(patient, f"patient {patient}: both sides of {scheme}, fold {number}")
    test_patients = patients_of(split_manifest.held_out)
    for _scheme, _number, fold in split_manifest.numbered_folds():
        for patient in test_patients & (patients_of(fold.train) | patients_of(fold.validation)):
            leaks.setdefault(patient, f"patient {patient}: in the test set and in a fold")
    return leaks
