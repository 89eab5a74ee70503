"""How a split manifest comes about: a test set chosen once, and folds of what is left.

Our own code, as in `raysearch.data.splits.folds`: a split depends on the groups' names, their rows
by class and the seed, and on nothing else.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from raysearch.data.files import Folder
from raysearch.data.patches import Rows, load_rows
from raysearch.data.shards.shard_manifest import read_manifest
from raysearch.data.splits.folds import Fold, folds_from, kfolds, named, tally
from raysearch.data.splits.split_manifest import (
    SplitManifest,
    count_classes,
    has_split_manifest,
    read_split_manifest,
    reject_unlike,
    split_manifest_names,
)
from raysearch.data.view import View
from raysearch.errors import DataError

TEST_FRACTION = 0.15
# Fewer patients than this are all needed to learn from.
MIN_FOR_TEST = 60
MAX_NAMED = 10
LEAVE_ONE_OUT, OFFICIAL = "leave-one-out", "official"
HOLDOUTS = re.compile(r"(\d{1,3})x(0?\.\d+)")

# By these, what is held-out of one is held-out of all.
OF_PATIENTS = ("patient", "slide")


@dataclass(frozen=True)
class SplitSpec:
    """What a split manifest is asked to hold.

    `by` is the column of the groups, `folds` the numbers of folds, `holdouts` (how many, the share
    judged). `test_share` is that of the groups to seal, None for 15 % where there are at least 60
    patients. `allowed` names the patients that may stand on both sides.
    """

    by: str = "patient"
    folds: tuple[int, ...] = (3,)
    leave_one_out: bool = False
    holdouts: tuple[int, float] | None = None
    test_share: float | None = None
    seed: int = 0
    allowed: tuple[str, ...] = ()


def kfold_name(folds: int) -> str:
    """The scheme of a number of folds."""
    return f"{folds}-fold"


def holdout_name(holdouts: tuple[int, float]) -> str:
    """The scheme of (how many, the share judged) repeated hold-outs."""
    times, fraction = holdouts
    return f"holdout-{times}x{fraction:g}"


def holdouts_of(text: str) -> tuple[int, float] | None:
    """The hold-outs that `text` asks for, as 5x0.2; None where it does not."""
    match = HOLDOUTS.fullmatch(text)
    if match is None or not int(match[1]) or not 0 < float(match[2]) < 1:
        return None
    return int(match[1]), float(match[2])


def split_spec_for(schemes: Sequence[str], seed: int = 0) -> SplitSpec:
    """The wish for `schemes`, by their names; official ones cannot be wished for."""
    folds = [name.removesuffix("-fold") for name in schemes if name.endswith("-fold")]
    held = [name.removeprefix("holdout-") for name in schemes if name.startswith("holdout-")]
    return SplitSpec(
        folds=tuple(map(int, folds)),
        leave_one_out=LEAVE_ONE_OUT in schemes,
        holdouts=holdouts_of(held[0]) if held else None,
        seed=seed,
    )


def make_split_manifest(
    rows: Rows, task: str, split_spec: SplitSpec, aside: Iterable[str] | None = None
) -> SplitManifest:
    """The split manifest of `rows`, whose labels are those of `task`, that `split_spec` asks for.

    `aside` are the set's test patients, as `patients_aside` tells them; without them, and where a
    share or a column was asked for, some are chosen. DataError where its folds cannot be made, and
    where a patient would stand on both sides.
    """
    held_out = _held_out(rows, split_spec, aside)
    split_manifest = SplitManifest(
        rows.fingerprint, task, split_spec.by, split_spec.seed, held_out, {}
    )
    return extend(split_manifest, rows, split_spec)


def split_manifest_for(
    data: str, name: str | None, task: str, schemes: Sequence[str]
) -> tuple[SplitManifest, bool]:
    """The split manifest `name` of the shards at `data`, by default the task's, and whether it is to write.

    Where there is none it is made, with the schemes asked for, by their names; where it lacks some
    of them, they are added. DataError for a split manifest of other rows or of another task, and for one
    that lacks the authors' lists.
    """
    folder = Folder(data)
    rows = load_rows(data, View(task))
    chosen = name or task
    if not has_split_manifest(folder, chosen):
        if name is not None:
            raise DataError(
                f"{data}: no split manifest {name!r}; write it with `raysearch split --name`"
            )
        _reject_official(data, chosen, schemes)
        split_spec = split_spec_for(schemes)
        aside = patients_aside(data, held_out_patients(data), split_spec.seed)
        return make_split_manifest(rows, task, split_spec, aside), True
    split_manifest = read_split_manifest(folder, chosen, rows.fingerprint)
    if split_manifest.task != task:
        raise DataError(
            f"split manifest {chosen!r} is of task {split_manifest.task!r}, and {task!r} is asked for"
        )
    counts = count_classes(
        rows.groups(split_manifest.by), rows.labels, len(rows.class_names), split_manifest
    )
    reject_unlike(split_manifest, counts)
    lacking = [scheme for scheme in schemes if scheme not in split_manifest.schemes]
    _reject_official(data, chosen, lacking)
    if lacking and split_manifest.leaks:
        raise DataError(
            f"{data}: split manifest {chosen!r} lets patients stand on both sides, and has no"
            f" {lacking[0]}; name another, or write one with `raysearch split --name NAME`"
        )
    split_spec = split_spec_for(lacking, split_manifest.seed)
    return (extend(split_manifest, rows, split_spec), True) if lacking else (split_manifest, False)


def _reject_official(data: str, name: str, lacking: Sequence[str]) -> None:
    if OFFICIAL in lacking:
        raise DataError(
            f"{data}: split manifest {name!r} has no official lists; write one with `raysearch split --name"
            " NAME --official LIST`, and say `split: NAME`"
        )


def patients_aside(data: str, held_out: frozenset[str], seed: int) -> frozenset[str]:
    """The test patients of the shards at `data`, the same for every task.

    Those that a split manifest seals already, as `held_out_patients` tells them; where there is no split manifest,
    15 % of the whole set's, chosen by `seed`.
    """
    if held_out or split_manifest_names(Folder(data)):
        return held_out
    try:
        rows = load_rows(data)
    except DataError:  # labels in further tasks alone
        return held_out
    if len(np.unique(rows.patients)) < MIN_FOR_TEST:
        return held_out
    draw = _test_draw(seed)
    return frozenset(
        choose_groups(rows.patients, rows.labels, TEST_FRACTION, draw, rows.class_names)
    )


def held_out_patients(data: str) -> frozenset[str]:
    """Every patient of the shards at `data` with a row that one of their split manifests seals."""
    folder = Folder(data)
    found: set[str] = set()
    for name in split_manifest_names(folder):
        split_manifest = read_split_manifest(folder, name, read_manifest(folder).fingerprint)
        if split_manifest.held_out:
            rows = load_rows(data, View(split_manifest.task))
            inside = np.isin(rows.groups(split_manifest.by), split_manifest.held_out)
            found.update(rows.patients[inside].tolist())
    return frozenset(found)


def extend(split_manifest: SplitManifest, rows: Rows, split_spec: SplitSpec) -> SplitManifest:
    """`split_manifest` with those schemes of `split_spec` that it has not; its seal and the others stay."""
    groups, labels = rows.groups(split_manifest.by), rows.labels
    free = ~np.isin(groups, split_manifest.held_out)
    schemes = dict(split_manifest.schemes)
    for name, folds in _schemes(groups[free], labels[free], split_spec, rows.class_names):
        schemes.setdefault(name, folds)
    found = replace(split_manifest, schemes=schemes)
    leaks = reject_leaks(found, groups, rows.patients, split_spec.allowed)
    found = replace(found, leaks=leaks)
    classes = len(rows.class_names)
    return replace(found, counts=count_classes(groups, labels, classes, found))


def _schemes(
    groups: NDArray[np.str_],
    labels: NDArray[np.int64],
    split_spec: SplitSpec,
    class_names: Sequence[str],
) -> list[tuple[str, tuple[Fold, ...]]]:
    names = [str(name) for name in np.unique(groups)]
    made = [
        (kfold_name(number), kfolds(groups, labels, number, split_spec.seed, class_names))
        for number in split_spec.folds
    ]
    if split_spec.leave_one_out:
        if len(names) < 2:
            raise DataError(f"one {split_spec.by} alone: nothing would be left to learn from")
        made.append((LEAVE_ONE_OUT, folds_from(names, [[name] for name in names])))
    if split_spec.holdouts is not None:
        times, fraction = split_spec.holdouts
        name = holdout_name(split_spec.holdouts)
        seeds = [f"{split_spec.seed}/holdout/{time}" for time in range(times)]
        held = [choose_groups(groups, labels, fraction, seed, class_names) for seed in seeds]
        made.append((name, folds_from(names, held)))
    return made


def _held_out(rows: Rows, split_spec: SplitSpec, aside: Iterable[str] | None) -> tuple[str, ...]:
    fraction = split_spec.test_share
    if fraction is not None and not 0 <= fraction < 1:
        raise DataError(f"--test {fraction:g}: not a share; give 0 or more, and less than 1")
    if fraction is None and aside is not None and split_spec.by in OF_PATIENTS:
        inside = np.isin(rows.patients, sorted(aside))
        return tuple(np.unique(rows.groups(split_spec.by)[inside]).tolist())
    if fraction is None:
        fraction = TEST_FRACTION if len(np.unique(rows.patients)) >= MIN_FOR_TEST else 0.0
    if not fraction:
        return ()
    groups, draw = rows.groups(split_spec.by), _test_draw(split_spec.seed)
    return choose_groups(groups, rows.labels, fraction, draw, rows.class_names)


def _test_draw(seed: int) -> str:
    return f"{seed}/test"


def choose_groups(
    groups: NDArray[np.str_],
    labels: NDArray[np.int64],
    fraction: float,
    seed: str,
    class_names: Sequence[str] = (),
) -> tuple[str, ...]:
    """About `fraction` of the groups, at least one, sorted: alike in size and classes to the rest.

    The groups stand in order of their share of the rarest class, then of their size; of each run of
    1 / `fraction` of them, one is drawn. DataError where a class would be missing on one side.
    """
    names, counts = tally(groups, labels)
    wanted = max(1, round(fraction * len(names)))
    rarest = int(np.argmin(counts.sum(axis=0)))
    sizes = counts.sum(axis=1)
    tenth = (10 * counts[:, rarest]) // np.maximum(sizes, 1)
    draws = [_draw(seed, str(name)) for name in names]
    order = sorted(range(len(names)), key=lambda one: (tenth[one], sizes[one], draws[one]))
    cuts = [round(part * len(order) / wanted) for part in range(wanted + 1)]
    runs = [order[start:end] for start, end in pairwise(cuts)]
    chosen = [min(run, key=lambda one: draws[one]) for run in runs if run]
    inside = counts[chosen].sum(axis=0)
    lacking = np.flatnonzero((inside == 0) | (inside == counts.sum(axis=0)))
    if len(lacking):
        raise DataError(
            f"{named(class_names, int(lacking[0]))} would be missing on one side of a hold-out of"
            f" {wanted} of {len(names)} groups; choose another share or seed, or folds instead"
        )
    return tuple(sorted(str(names[one]) for one in chosen))


def _draw(seed: str, name: str) -> bytes:
    return hashlib.sha256(f"{seed}/{name}".encode()).digest()


def reject_leaks(
    split_manifest: SplitManifest,
    groups: NDArray[np.str_],
    patients: NDArray[np.str_],
    allowed: Sequence[str],
) -> tuple[str, ...]:
    """What is not apart, by patient; DataError for a patient that is not among those `allowed`."""
    if split_manifest.by == "patient":
        return ()
    owners: dict[str, set[str]] = {}
    for group, patient in set(zip(groups.tolist(), patients.tolist(), strict=True)):
        owners.setdefault(group, set()).add(patient)
    told: dict[str, str] = {}
    for scheme, folds in split_manifest.schemes.items():
        for number, fold in enumerate(folds):
            for patient in _patients(fold.learn, owners) & _patients(fold.judge, owners):
                told.setdefault(
                    patient, f"patient {patient}: both sides of {scheme}, fold {number}"
                )
    inside = _patients(split_manifest.held_out, owners)
    for folds in split_manifest.schemes.values():
        for fold in folds:
            for patient in inside & (_patients(fold.learn, owners) | _patients(fold.judge, owners)):
                told.setdefault(patient, f"patient {patient}: held-out, and in a fold")
    unknown = sorted(set(told) - set(allowed))
    if unknown:
        raise DataError(
            f"{told[unknown[0]]}, and {len(unknown) - 1} more patients; group by patient, or accept"
            f" it by --allow-leak {','.join(unknown[:MAX_NAMED])}"
            + (",..." if len(unknown) > MAX_NAMED else "")
        )
    return tuple(told[patient] for patient in sorted(told))


def _patients(groups: Sequence[str], owners: Mapping[str, set[str]]) -> set[str]:
    return set().union(*(owners.get(group, set()) for group in groups))
