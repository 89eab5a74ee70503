"""Splits that a set's authors published, as split manifests."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from raysearch.data.patches import Rows
from raysearch.data.splits.folds import Fold
from raysearch.data.splits.split_creation import OFFICIAL, SplitSpec, reject_leaks
from raysearch.data.splits.split_manifest import SplitManifest, count_classes
from raysearch.errors import DataError

# BreakHis: `dsfold1.txt` has a line `FILE|MAGNIFICATION|FOLD|train or test` an image.
LINE = re.compile(r"(?P<file>[^|]+)\|(?P<magnification>\d+)\|(?P<fold>\d+)\|(?P<role>train|test)")
SLIDE = re.compile(r"SOB_[BM]_[A-Z]+-\d\d-\d+[A-Z]*")
# Janowczyk's IDC split: `cases_train.txt` and its like have a patient a line.
PARTS = ("train", "val", "test")
COLUMN, COLUMN_PARTS = "split", ("train", "valid", "test")


def official_split_manifest(
    rows: Rows, task: str, split_spec: SplitSpec, sources: Sequence[str]
) -> SplitManifest:
    """The split manifest that the authors' lists in `sources` say.

    `split` is the column that the set itself brings: learned on train, judged by valid, test
    held-out. Three lists of patients, named `..._train`, `..._val` and `..._test`, mean the same;
    each list of BreakHis images is one hold-out. DataError for lists that are neither, and where a
    patient would stand on both sides.
    """
    by = split_spec.by
    groups, labels = rows.groups(by), rows.labels
    there = set(groups.tolist())
    if list(sources) == [COLUMN]:
        held_out, folds = _by_column(groups, rows.parts)
    elif all(any(LINE.fullmatch(line) for line in _lines(one)[:1]) for one in sources):
        held_out, folds = (), _by_images(sources, there, by)
    else:
        held_out, folds = _by_patients(sources, there)
    split_manifest = SplitManifest(
        rows.fingerprint, task, by, split_spec.seed, held_out, {OFFICIAL: folds}
    )
    split_manifest = replace(
        split_manifest,
        leaks=reject_leaks(split_manifest, groups, rows.patients, split_spec.allowed),
    )
    return replace(
        split_manifest, counts=count_classes(groups, labels, len(rows.class_names), split_manifest)
    )


def _by_column(
    groups: NDArray[np.str_], parts: NDArray[np.str_]
) -> tuple[tuple[str, ...], tuple[Fold, ...]]:
    unknown = set(parts.tolist()) - {*COLUMN_PARTS, ""}
    if unknown:
        raise DataError(
            f"--official split: {min(unknown)!r} is none of {', '.join(COLUMN_PARTS)}; mend the"
            " column, and shard again"
        )
    of = {part: set(groups[parts == part].tolist()) for part in COLUMN_PARTS}
    if not of["train"] or not of["valid"]:
        raise DataError("--official split: these shards do not say which rows are train and valid")
    _reject_twice(list(of.values()))
    return tuple(sorted(of["test"])), (
        Fold(tuple(sorted(of["train"])), tuple(sorted(of["valid"]))),
    )


def _by_patients(
    sources: Sequence[str], there: set[str]
) -> tuple[tuple[str, ...], tuple[Fold, ...]]:
    of: dict[str, set[str]] = {}
    for source in sources:
        found = [part for part in PARTS if Path(source).stem.endswith(part)]
        if len(found) != 1 or found[0] in of:
            raise DataError(
                f"--official {source}: neither a list of BreakHis images, nor named ..._train,"
                " ..._val or ..._test; give the authors' lists"
            )
        of[found[0]] = set(_lines(source)) & there
        if not of[found[0]]:
            raise DataError(f"--official {source}: none of its patients is in these shards")
    _reject_twice(list(of.values()))
    if not of.get("train") or not of.get("val"):
        raise DataError(
            "--official: a list of train and one of val are needed, with patients of these shards"
        )
    folds = (Fold(tuple(sorted(of["train"])), tuple(sorted(of["val"]))),)
    return tuple(sorted(of.get("test", ()))), folds


def _by_images(sources: Sequence[str], there: set[str], by: str) -> tuple[Fold, ...]:
    if by != "slide":
        raise DataError("--official of BreakHis images goes by slide; add --by slide")
    folds = []
    for source in sources:
        of: dict[str, set[str]] = {"train": set(), "test": set()}
        for number, line in enumerate(_lines(source), 1):
            match = LINE.fullmatch(line)
            slide = SLIDE.match(match["file"]) if match else None
            if match is None or slide is None:
                raise DataError(f"--official {source}: line {number} is no image of BreakHis")
            of[match["role"]].add(slide[0])
        _reject_twice(list(of.values()))
        learn, judge = (tuple(sorted(of[role] & there)) for role in ("train", "test"))
        if not learn or not judge:
            raise DataError(f"--official {source}: none of its slides is on one side; give others")
        folds.append(Fold(learn, judge))
    return tuple(folds)


def _reject_twice(sets: list[set[str]]) -> None:
    for number, one in enumerate(sets):
        for other in sets[number + 1 :]:
            if one & other:
                raise DataError(
                    f"--official: {min(one & other)!r} stands in two of its lists; mend them"
                )


def _lines(source: str) -> list[str]:
    try:
        text = Path(source).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        raise DataError(f"--official {source}: cannot be read; give a text file") from None
    return [line.strip() for line in text.splitlines() if line.strip()]
