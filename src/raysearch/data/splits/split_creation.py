"""Creates split manifests: selects the held-out test set once, and divides the rest into folds.

As in `raysearch.data.splits.folds`, a split depends only on the group names, their class counts and
the seed, so that it stays the same when libraries change.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from raysearch.config.names import (
    LEAVE_ONE_OUT,
    OFFICIAL,
    holdout_name,
    kfold_name,
    parse_holdouts,
)
from raysearch.data.files import Folder
from raysearch.data.shards.rows import Rows, View, load_rows
from raysearch.data.shards.shard_manifest import read_manifest
from raysearch.data.splits.folds import (
    Fold,
    build_folds,
    class_counts_by_group,
    class_text,
    stratified_group_kfold,
)
from raysearch.data.splits.leak_check import check_leaks
from raysearch.data.splits.split_manifest import (
    SplitManifest,
    check_split_rows,
    count_classes,
    has_split_manifest,
    read_split_manifest,
    split_manifest_names,
)
from raysearch.errors import DataError

TEST_FRACTION = 0.15
# With fewer patients, there is no test set by default: all are needed for training.
MIN_PATIENTS_FOR_TEST = 60
# With these groups, the test patients of one split manifest are those of all.
PATIENT_LEVEL_GROUPS = ("patient", "slide")


@dataclass(frozen=True)
class SplitSpec:
    """What a split manifest contains.

    Attributes:
        by: The column of the groups.
        folds: Numbers of folds, one k-fold scheme for each.
        leave_one_out: Whether to add a scheme with one fold for each group.
        holdouts: (repetitions, validation fraction) of repeated hold-outs.
        test_fraction: Fraction of the groups in the held-out test set; None for 15 % if there are
            at least 60 patients, else 0.
        seed: Seed of the random choices.
        allowed_leaks: Patients that may be on both sides of a fold.
    """

    by: str = "patient"
    folds: tuple[int, ...] = (3,)
    leave_one_out: bool = False
    holdouts: tuple[int, float] | None = None
    test_fraction: float | None = None
    seed: int = 0
    allowed_leaks: tuple[str, ...] = ()

    @classmethod
    def of_schemes(cls, schemes: Sequence[str], seed: int = 0) -> SplitSpec:
        """The specification of the split `schemes`, given by name; official splits have none."""
        num_folds = [name.removesuffix("-fold") for name in schemes if name.endswith("-fold")]
        holdouts = [name for name in schemes if name.startswith("holdout-")]
        return cls(
            folds=tuple(map(int, num_folds)),
            leave_one_out=LEAVE_ONE_OUT in schemes,
            holdouts=parse_holdouts(holdouts[0].removeprefix("holdout-")) if holdouts else None,
            seed=seed,
        )


def create_split_manifest(
    rows: Rows, task: str, split_spec: SplitSpec, test_patients: Iterable[str] | None = None
) -> SplitManifest:
    """Create a split manifest of `rows`.

    Args:
        rows: All rows with a label in `task`.
        task: The task of the labels in `rows`.
        split_spec: What the split manifest contains.
        test_patients: The test patients that `choose_test_patients` returns. They are used if
            `split_spec` has no `test_fraction` and its groups are patients or slides; else the
            test groups are selected from `rows`.

    Raises:
        DataError: If the folds cannot be made, or a patient would be on both sides of a fold.
    """
    held_out = _held_out_groups(rows, split_spec, test_patients)
    split_manifest = SplitManifest(
        rows.fingerprint, task, split_spec.by, split_spec.seed, held_out, {}
    )
    return add_schemes(split_manifest, rows, split_spec)


def load_or_create_split_manifest(
    data: str, name: str | None, task: str, schemes: Sequence[str]
) -> tuple[SplitManifest, bool]:
    """Load the split manifest of the shards at `data` and add the schemes that it lacks.

    Args:
        data: The address of the shards.
        name: The name of the split manifest, which must exist; None for the one named after the
            task, which is created if it does not exist.
        task: The task of the labels.
        schemes: Names of the split schemes that are needed.

    Returns:
        The split manifest, and whether it differs from what is stored.

    Raises:
        DataError: If the split manifest belongs to other rows or another task, or lacks the
            official split.
    """
    folder = Folder(data)
    rows = load_rows(data, View(task))
    manifest_name = name or task
    if not has_split_manifest(folder, manifest_name):
        if name is not None:
            raise DataError(
                f"{data}: no split manifest {name!r}; create it with `raysearch split --name`"
            )
        _reject_missing_official(data, manifest_name, schemes)
        split_spec = SplitSpec.of_schemes(schemes)
        test_patients = choose_test_patients(data, held_out_patients(data), split_spec.seed)
        return create_split_manifest(rows, task, split_spec, test_patients), True
    split_manifest = read_split_manifest(folder, manifest_name, rows.fingerprint)
    if split_manifest.task != task:
        raise DataError(
            f"split manifest {manifest_name!r} is of task {split_manifest.task!r}, not {task!r}"
        )
    groups, num_classes = rows.groups(split_manifest.by), len(rows.class_names)
    check_split_rows(
        split_manifest, count_classes(groups, rows.labels, num_classes, split_manifest)
    )
    missing = [scheme for scheme in schemes if scheme not in split_manifest.schemes]
    if not missing:
        return split_manifest, False
    _reject_missing_official(data, manifest_name, missing)
    if split_manifest.leaks:
        raise DataError(
            f"{data}: split manifest {manifest_name!r} allows patients on both sides, and has no"
            f" {missing[0]}; name another, or create one with `raysearch split --name NAME`"
        )
    split_spec = SplitSpec.of_schemes(missing, split_manifest.seed)
    return add_schemes(split_manifest, rows, split_spec), True


def _reject_missing_official(data: str, name: str, missing_schemes: Sequence[str]) -> None:
    if OFFICIAL in missing_schemes:
        raise DataError(
            f"{data}: split manifest {name!r} has no official split; create one with `raysearch"
            " split --name NAME --official LIST`, and set `split: NAME`"
        )


def choose_test_patients(data: str, held_out: frozenset[str], seed: int) -> frozenset[str]:
    """Choose the test patients of a new split manifest, which are the same for every task.

    Args:
        data: The address of the shards.
        held_out: The result of `held_out_patients`. If there is a split manifest already, these are
            the test patients.
        seed: Seed of the selection of 15 % of all patients, if there is no split manifest.

    Returns:
        The test patients; empty if there are too few patients for a test set.
    """
    if held_out or split_manifest_names(Folder(data)):
        return held_out
    try:
        rows = load_rows(data)
    except DataError:  # no row has a label in the default task
        return held_out
    if len(np.unique(rows.patients)) < MIN_PATIENTS_FOR_TEST:
        return held_out
    return frozenset(
        choose_groups(
            rows.patients, rows.labels, TEST_FRACTION, _test_set_seed(seed), rows.class_names
        )
    )


def held_out_patients(data: str) -> frozenset[str]:
    """The patients with a row in the test set of any split manifest of the shards at `data`."""
    folder = Folder(data)
    patients: set[str] = set()
    for name in split_manifest_names(folder):
        split_manifest = read_split_manifest(folder, name, read_manifest(folder).fingerprint)
        if split_manifest.held_out:
            rows = load_rows(data, View(split_manifest.task))
            in_test_set = np.isin(rows.groups(split_manifest.by), split_manifest.held_out)
            patients.update(rows.patients[in_test_set].tolist())
    return frozenset(patients)


def add_schemes(split_manifest: SplitManifest, rows: Rows, split_spec: SplitSpec) -> SplitManifest:
    """Add the schemes of `split_spec` that `split_manifest` lacks; the test set stays the same."""
    groups, labels = rows.groups(split_manifest.by), rows.labels
    in_folds = ~np.isin(groups, split_manifest.held_out)
    schemes = dict(split_manifest.schemes)
    new_schemes = _make_schemes(groups[in_folds], labels[in_folds], split_spec, rows.class_names)
    for name, folds in new_schemes:
        schemes.setdefault(name, folds)
    return finish_split_manifest(
        replace(split_manifest, schemes=schemes), rows, split_spec.allowed_leaks
    )


def finish_split_manifest(
    split_manifest: SplitManifest, rows: Rows, allowed_leaks: Sequence[str]
) -> SplitManifest:
    """Set the leaks and the class counts of `split_manifest`; DataError for a leak not allowed."""
    groups = rows.groups(split_manifest.by)
    leaks = check_leaks(split_manifest, groups, rows.patients, allowed_leaks)
    counts = count_classes(groups, rows.labels, len(rows.class_names), split_manifest)
    return replace(split_manifest, leaks=leaks, counts=counts)


def _make_schemes(
    groups: NDArray[np.str_],
    labels: NDArray[np.int64],
    split_spec: SplitSpec,
    class_names: Sequence[str],
) -> list[tuple[str, tuple[Fold, ...]]]:
    names = [str(name) for name in np.unique(groups)]
    schemes = [
        (
            kfold_name(num_folds),
            stratified_group_kfold(groups, labels, num_folds, split_spec.seed, class_names),
        )
        for num_folds in split_spec.folds
    ]
    if split_spec.leave_one_out:
        if len(names) < 2:
            raise DataError(f"only one {split_spec.by}: no training data would remain")
        schemes.append((LEAVE_ONE_OUT, build_folds(names, [[name] for name in names])))
    if split_spec.holdouts is not None:
        repetitions, fraction = split_spec.holdouts
        seeds = [f"{split_spec.seed}/holdout/{repetition}" for repetition in range(repetitions)]
        validation = [choose_groups(groups, labels, fraction, seed, class_names) for seed in seeds]
        schemes.append((holdout_name(split_spec.holdouts), build_folds(names, validation)))
    return schemes


def _held_out_groups(
    rows: Rows, split_spec: SplitSpec, test_patients: Iterable[str] | None
) -> tuple[str, ...]:
    fraction = split_spec.test_fraction
    if fraction is not None and not 0 <= fraction < 1:
        raise DataError(f"--test {fraction:g}: not a fraction; give 0 or more, and less than 1")
    if fraction is None and test_patients is not None and split_spec.by in PATIENT_LEVEL_GROUPS:
        in_test_set = np.isin(rows.patients, sorted(test_patients))
        return tuple(np.unique(rows.groups(split_spec.by)[in_test_set]).tolist())
    if fraction is None:
        enough = len(np.unique(rows.patients)) >= MIN_PATIENTS_FOR_TEST
        fraction = TEST_FRACTION if enough else 0.0
    if not fraction:
        return ()
    groups, seed = rows.groups(split_spec.by), _test_set_seed(split_spec.seed)
    return choose_groups(groups, rows.labels, fraction, seed, rows.class_names)


def _test_set_seed(seed: int) -> str:
    return f"{seed}/test"


def choose_groups(
    groups: NDArray[np.str_],
    labels: NDArray[np.int64],
    fraction: float,
    seed: str,
    class_names: Sequence[str] = (),
) -> tuple[str, ...]:
    """Choose about `fraction` of the groups, whose sizes and classes represent all groups.

    The groups are sorted by their fraction of the rarest class, then by size, and are divided into
    strata of 1 / `fraction` groups. One group of each stratum is chosen pseudo-randomly.

    Args:
        groups: Group of each row, shape (N,).
        labels: Class of each row, shape (N,).
        fraction: Fraction of the groups to choose; at least one group is chosen.
        seed: Decides which group of a stratum is chosen.
        class_names: Names of the classes, for error messages.

    Returns:
        The sorted names of the chosen groups.

    Raises:
        DataError: If a class would be missing in the chosen groups or in the others.
    """
    names, counts = class_counts_by_group(groups, labels)
    num_chosen = max(1, round(fraction * len(names)))
    rarest_class = int(np.argmin(counts.sum(axis=0)))
    sizes = counts.sum(axis=1)
    prevalence_tenths = (10 * counts[:, rarest_class]) // np.maximum(sizes, 1)
    sort_keys = [_sort_key(seed, str(name)) for name in names]
    order = sorted(
        range(len(names)),
        key=lambda group: (prevalence_tenths[group], sizes[group], sort_keys[group]),
    )
    bounds = [round(stratum * len(order) / num_chosen) for stratum in range(num_chosen + 1)]
    strata = [order[start:end] for start, end in pairwise(bounds)]
    chosen = [min(stratum, key=sort_keys.__getitem__) for stratum in strata if stratum]
    chosen_counts = counts[chosen].sum(axis=0)
    missing = np.flatnonzero((chosen_counts == 0) | (chosen_counts == counts.sum(axis=0)))
    if len(missing):
        raise DataError(
            f"{class_text(class_names, int(missing[0]))} would be missing on one side of a hold-out"
            f" of {num_chosen} of {len(names)} groups; choose another fraction or seed, or folds"
            " instead"
        )
    return tuple(sorted(str(names[group]) for group in chosen))


def _sort_key(seed: str, name: str) -> bytes:
    return hashlib.sha256(f"{seed}/{name}".encode()).digest()
