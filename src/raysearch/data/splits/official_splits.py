"""Reads the official split of a data set, as its authors published it, into a split manifest."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from raysearch.config.names import OFFICIAL
from raysearch.data.csv_files import clean_name
from raysearch.data.shards.rows import Rows
from raysearch.data.splits.folds import Fold
from raysearch.data.splits.split_creation import SplitSpec, finish_split_manifest
from raysearch.data.splits.split_manifest import SplitManifest
from raysearch.errors import DataError

# BreakHis: each line of `dsfold1.txt` is `FILE|MAGNIFICATION|FOLD|train or test`.
BREAKHIS_LINE = re.compile(
    r"(?P<file>[^|]+)\|(?P<magnification>\d+)\|(?P<fold>\d+)\|(?P<subset>train|test)"
)
BREAKHIS_SLIDE = re.compile(r"SOB_[BM]_[A-Z]+-\d\d-\d+[A-Z]*")
# Janowczyk's split of IDC: `cases_train.txt` and the others have one patient in each line.
LIST_SUBSETS = ("train", "val", "test")
COLUMN, COLUMN_SUBSETS = "split", ("train", "valid", "test")


def official_split_manifest(
    rows: Rows, task: str, split_spec: SplitSpec, sources: Sequence[str]
) -> SplitManifest:
    """Create the split manifest of an official split.

    Args:
        rows: All rows with a label in `task`.
        task: The task of the labels in `rows`.
        split_spec: The column of the groups, and the patients that may be on both sides.
        sources: One of three forms. `["split"]` is the column of the data set itself, with the
            values train, valid (for validation) and test (held out). Three lists of patients,
            named `..._train`, `..._val` and `..._test`, have the same meaning. Each list of
            BreakHis images is one hold-out.

    Raises:
        DataError: If the lists have another form, or a group or patient is on both sides.
    """
    by = split_spec.by
    groups = rows.groups(by)
    names = set(groups.tolist())
    if list(sources) == [COLUMN]:
        held_out, folds = _read_column(groups, rows.official_splits)
    elif all(any(map(BREAKHIS_LINE.fullmatch, _lines(source)[:1])) for source in sources):
        held_out, folds = (), _read_breakhis_lists(sources, names, by)
    else:
        held_out, folds = _read_patient_lists(sources, names)
    split_manifest = SplitManifest(
        rows.fingerprint, task, by, split_spec.seed, held_out, {OFFICIAL: folds}
    )
    return finish_split_manifest(split_manifest, rows, split_spec.allowed_leaks)


def _read_column(
    groups: NDArray[np.str_], official_splits: NDArray[np.str_]
) -> tuple[tuple[str, ...], tuple[Fold, ...]]:
    unknown = set(official_splits.tolist()) - {*COLUMN_SUBSETS, ""}
    if unknown:
        raise DataError(
            f"--official split: {min(unknown)!r} is none of {', '.join(COLUMN_SUBSETS)}; correct"
            " the column, and shard the images again"
        )
    subsets = {name: set(groups[official_splits == name].tolist()) for name in COLUMN_SUBSETS}
    if not subsets["train"] or not subsets["valid"]:
        raise DataError("--official split: the shards have no rows with split train or valid")
    _reject_overlap(subsets)
    fold = Fold(tuple(sorted(subsets["train"])), tuple(sorted(subsets["valid"])))
    return tuple(sorted(subsets["test"])), (fold,)


def _read_patient_lists(
    sources: Sequence[str], names: set[str]
) -> tuple[tuple[str, ...], tuple[Fold, ...]]:
    subsets: dict[str, set[str]] = {}
    for source in sources:
        matching = [subset for subset in LIST_SUBSETS if Path(source).stem.endswith(subset)]
        if len(matching) != 1 or matching[0] in subsets:
            raise DataError(
                f"--official {source}: neither a list of BreakHis images, nor named ..._train,"
                " ..._val or ..._test; give the authors' lists"
            )
        subsets[matching[0]] = set(_lines(source)) & names
        if not subsets[matching[0]]:
            raise DataError(f"--official {source}: none of its patients is in these shards")
    _reject_overlap(subsets)
    if not subsets.get("train") or not subsets.get("val"):
        raise DataError(
            "--official: needs a list of train and one of val, with patients of these shards"
        )
    fold = Fold(tuple(sorted(subsets["train"])), tuple(sorted(subsets["val"])))
    return tuple(sorted(subsets.get("test", ()))), (fold,)


def _read_breakhis_lists(sources: Sequence[str], names: set[str], by: str) -> tuple[Fold, ...]:
    if by != "slide":
        raise DataError("--official with BreakHis images groups by slide; add --by slide")
    folds = []
    for source in sources:
        subsets: dict[str, set[str]] = {"train": set(), "test": set()}
        for number, line in enumerate(_lines(source), 1):
            match = BREAKHIS_LINE.fullmatch(line)
            slide = BREAKHIS_SLIDE.match(match["file"]) if match else None
            if match is None or slide is None:
                raise DataError(f"--official {source}: line {number} is no image of BreakHis")
            subsets[match["subset"]].add(slide[0])
        _reject_overlap(subsets)
        train, validation = (tuple(sorted(subsets[name] & names)) for name in ("train", "test"))
        if not train or not validation:
            raise DataError(
                f"--official {source}: these shards have none of its slides of train or of test;"
                " give other lists"
            )
        folds.append(Fold(train, validation))
    return tuple(folds)


def _reject_overlap(subsets: Mapping[str, set[str]]) -> None:
    groups = list(subsets.values())
    for number, first in enumerate(groups):
        for second in groups[number + 1 :]:
            if first & second:
                raise DataError(
                    f"--official: {min(first & second)!r} is in two of the lists; correct them"
                )


def _lines(source: str) -> list[str]:
    try:
        text = Path(source).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        raise DataError(f"--official {source}: cannot be read; give a text file") from None
    lines = map(clean_name, text.splitlines())
    return [line for line in lines if line]
