"""How a ledger comes about: a test set chosen once, and folds of what is left.

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
    Ledger,
    count_classes,
    has_ledger,
    ledger_names,
    read_ledger,
    refuse_unlike,
)
from raysearch.data.view import View
from raysearch.errors import DataError

TEST_SHARE = 0.15
# Fewer patients than this are all needed to learn from.
LEAST_FOR_TEST = 60
MOST_NAMED = 10
LEAVE_ONE_OUT, OFFICIAL = "leave-one-out", "official"
HOLDOUTS = re.compile(r"(\d{1,3})x(0?\.\d+)")

# By these, what is sealed of one is sealed of all.
OF_PATIENTS = ("patient", "slide")


@dataclass(frozen=True)
class Wish:
    """What a ledger is asked to hold.

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
    times, share = holdouts
    return f"holdout-{times}x{share:g}"


def holdouts_of(text: str) -> tuple[int, float] | None:
    """The hold-outs that `text` asks for, as 5x0.2; None where it does not."""
    match = HOLDOUTS.fullmatch(text)
    if match is None or not int(match[1]) or not 0 < float(match[2]) < 1:
        return None
    return int(match[1]), float(match[2])


def wish_for(schemes: Sequence[str], seed: int = 0) -> Wish:
    """The wish for `schemes`, by their names; official ones cannot be wished for."""
    folds = [name.removesuffix("-fold") for name in schemes if name.endswith("-fold")]
    held = [name.removeprefix("holdout-") for name in schemes if name.startswith("holdout-")]
    return Wish(
        folds=tuple(map(int, folds)),
        leave_one_out=LEAVE_ONE_OUT in schemes,
        holdouts=holdouts_of(held[0]) if held else None,
        seed=seed,
    )


def make_ledger(rows: Rows, task: str, wish: Wish, aside: Iterable[str] | None = None) -> Ledger:
    """The ledger of `rows`, whose labels are those of `task`, that `wish` asks for.

    `aside` are the set's test patients, as `patients_aside` tells them; without them, and where a
    share or a column was asked for, some are chosen. DataError where its folds cannot be made, and
    where a patient would stand on both sides.
    """
    sealed = _sealed(rows, wish, aside)
    ledger = Ledger(rows.fingerprint, task, wish.by, wish.seed, sealed, {})
    return extend(ledger, rows, wish)


def ledger_for(
    data: str, name: str | None, task: str, schemes: Sequence[str]
) -> tuple[Ledger, bool]:
    """The ledger `name` of the shards at `data`, by default the task's, and whether it is to write.

    Where there is none it is made, with the schemes asked for, by their names; where it lacks some
    of them, they are added. DataError for a ledger of other rows or of another task, and for one
    that lacks the authors' lists.
    """
    folder = Folder(data)
    rows = load_rows(data, View(task))
    chosen = name or task
    if not has_ledger(folder, chosen):
        if name is not None:
            raise DataError(f"{data}: no ledger {name!r}; write it with `raysearch split --name`")
        _refuse_official(data, chosen, schemes)
        wish = wish_for(schemes)
        aside = patients_aside(data, sealed_patients(data), wish.seed)
        return make_ledger(rows, task, wish, aside), True
    ledger = read_ledger(folder, chosen, rows.fingerprint)
    if ledger.task != task:
        raise DataError(f"ledger {chosen!r} is of task {ledger.task!r}, and {task!r} is asked for")
    counts = count_classes(rows.groups(ledger.by), rows.labels, len(rows.class_names), ledger)
    refuse_unlike(ledger, counts)
    lacking = [scheme for scheme in schemes if scheme not in ledger.schemes]
    _refuse_official(data, chosen, lacking)
    if lacking and ledger.leaks:
        raise DataError(
            f"{data}: ledger {chosen!r} lets patients stand on both sides, and has no"
            f" {lacking[0]}; name another, or write one with `raysearch split --name NAME`"
        )
    wish = wish_for(lacking, ledger.seed)
    return (extend(ledger, rows, wish), True) if lacking else (ledger, False)


def _refuse_official(data: str, name: str, lacking: Sequence[str]) -> None:
    if OFFICIAL in lacking:
        raise DataError(
            f"{data}: ledger {name!r} has no official lists; write one with `raysearch split --name"
            " NAME --official LIST`, and say `split: NAME`"
        )


def patients_aside(data: str, sealed: frozenset[str], seed: int) -> frozenset[str]:
    """The test patients of the shards at `data`, the same for every task.

    Those that a ledger seals already, as `sealed_patients` tells them; where there is no ledger,
    15 % of the whole set's, chosen by `seed`.
    """
    if sealed or ledger_names(Folder(data)):
        return sealed
    try:
        rows = load_rows(data)
    except DataError:  # labels in further tasks alone
        return sealed
    if len(np.unique(rows.patients)) < LEAST_FOR_TEST:
        return sealed
    draw = _test_draw(seed)
    return frozenset(choose_groups(rows.patients, rows.labels, TEST_SHARE, draw, rows.class_names))


def sealed_patients(data: str) -> frozenset[str]:
    """Every patient of the shards at `data` with a row that one of their ledgers seals."""
    folder = Folder(data)
    found: set[str] = set()
    for name in ledger_names(folder):
        ledger = read_ledger(folder, name, read_manifest(folder).fingerprint)
        if ledger.sealed:
            rows = load_rows(data, View(ledger.task))
            inside = np.isin(rows.groups(ledger.by), ledger.sealed)
            found.update(rows.patients[inside].tolist())
    return frozenset(found)


def extend(ledger: Ledger, rows: Rows, wish: Wish) -> Ledger:
    """`ledger` with those schemes of `wish` that it has not; its seal and the others stay."""
    groups, labels = rows.groups(ledger.by), rows.labels
    free = ~np.isin(groups, ledger.sealed)
    schemes = dict(ledger.schemes)
    for name, folds in _schemes(groups[free], labels[free], wish, rows.class_names):
        schemes.setdefault(name, folds)
    found = replace(ledger, schemes=schemes)
    leaks = refuse_leaks(found, groups, rows.patients, wish.allowed)
    found = replace(found, leaks=leaks)
    classes = len(rows.class_names)
    return replace(found, counts=count_classes(groups, labels, classes, found))


def _schemes(
    groups: NDArray[np.str_],
    labels: NDArray[np.int64],
    wish: Wish,
    class_names: Sequence[str],
) -> list[tuple[str, tuple[Fold, ...]]]:
    names = [str(name) for name in np.unique(groups)]
    made = [
        (kfold_name(number), kfolds(groups, labels, number, wish.seed, class_names))
        for number in wish.folds
    ]
    if wish.leave_one_out:
        if len(names) < 2:
            raise DataError(f"one {wish.by} alone: nothing would be left to learn from")
        made.append((LEAVE_ONE_OUT, folds_from(names, [[name] for name in names])))
    if wish.holdouts is not None:
        times, share = wish.holdouts
        name = holdout_name(wish.holdouts)
        seeds = [f"{wish.seed}/holdout/{time}" for time in range(times)]
        held = [choose_groups(groups, labels, share, seed, class_names) for seed in seeds]
        made.append((name, folds_from(names, held)))
    return made


def _sealed(rows: Rows, wish: Wish, aside: Iterable[str] | None) -> tuple[str, ...]:
    share = wish.test_share
    if share is not None and not 0 <= share < 1:
        raise DataError(f"--test {share:g}: not a share; give 0 or more, and less than 1")
    if share is None and aside is not None and wish.by in OF_PATIENTS:
        inside = np.isin(rows.patients, sorted(aside))
        return tuple(np.unique(rows.groups(wish.by)[inside]).tolist())
    if share is None:
        share = TEST_SHARE if len(np.unique(rows.patients)) >= LEAST_FOR_TEST else 0.0
    if not share:
        return ()
    groups, draw = rows.groups(wish.by), _test_draw(wish.seed)
    return choose_groups(groups, rows.labels, share, draw, rows.class_names)


def _test_draw(seed: int) -> str:
    return f"{seed}/test"


def choose_groups(
    groups: NDArray[np.str_],
    labels: NDArray[np.int64],
    share: float,
    seed: str,
    class_names: Sequence[str] = (),
) -> tuple[str, ...]:
    """About `share` of the groups, at least one, sorted: alike in size and classes to the rest.

    The groups stand in order of their share of the rarest class, then of their size; of each run of
    1 / `share` of them, one is drawn. DataError where a class would be missing on one side.
    """
    names, counts = tally(groups, labels)
    wanted = max(1, round(share * len(names)))
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


def refuse_leaks(
    ledger: Ledger, groups: NDArray[np.str_], patients: NDArray[np.str_], allowed: Sequence[str]
) -> tuple[str, ...]:
    """What is not apart, by patient; DataError for a patient that is not among those `allowed`."""
    if ledger.by == "patient":
        return ()
    owners: dict[str, set[str]] = {}
    for group, patient in set(zip(groups.tolist(), patients.tolist(), strict=True)):
        owners.setdefault(group, set()).add(patient)
    told: dict[str, str] = {}
    for scheme, folds in ledger.schemes.items():
        for number, fold in enumerate(folds):
            for patient in _patients(fold.learn, owners) & _patients(fold.judge, owners):
                told.setdefault(
                    patient, f"patient {patient}: both sides of {scheme}, fold {number}"
                )
    inside = _patients(ledger.sealed, owners)
    for folds in ledger.schemes.values():
        for fold in folds:
            for patient in inside & (_patients(fold.learn, owners) | _patients(fold.judge, owners)):
                told.setdefault(patient, f"patient {patient}: sealed, and in a fold")
    unknown = sorted(set(told) - set(allowed))
    if unknown:
        raise DataError(
            f"{told[unknown[0]]}, and {len(unknown) - 1} more patients; group by patient, or accept"
            f" it by --allow-leak {','.join(unknown[:MOST_NAMED])}"
            + (",..." if len(unknown) > MOST_NAMED else "")
        )
    return tuple(told[patient] for patient in sorted(told))


def _patients(groups: Sequence[str], owners: Mapping[str, set[str]]) -> set[str]:
    return set().union(*(owners.get(group, set()) for group in groups))
