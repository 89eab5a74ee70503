"""Everything that is to be known of a set of shards, in one value."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raysearch.data.audit.counts import Column, class_counts, column_counts
from raysearch.data.audit.duplicates import (
    Group,
    canonical_hash,
    exact_groups,
    near_groups,
    near_pairs,
    turned_candidates,
)
from raysearch.data.audit.label_conflicts import Mixed, mixed_patients, place_conflicts
from raysearch.data.audit.leakage_gap import LeakageGap, Sample, measure_leakage_gap
from raysearch.data.audit.outliers import UNIFORM, Outliers, find_outliers
from raysearch.data.audit.patch_features import Measures, measure
from raysearch.data.audit.shard_reader import (
    Images,
    Names,
    Shards,
    open_shards,
    read_names,
    scan,
    unpadded,
)
from raysearch.data.audit.split_integrity import (
    Checked,
    check_split_manifests,
    crossings,
    held_out_rows,
)
from raysearch.data.patches import Rows, load_rows
from raysearch.data.view import View

# Two patches without any structure are the same pixels without being the same place.
EMPTY = 1.0
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Judged:
    """A group of duplicates, and what it stands across.

    `empty` is a patch of one colour. `labels` are the classes, `parts` those of the set's own
    split, `split_manifests` the (name, sides) that it stands on both of.
    """

    group: Group
    empty: bool
    patients: tuple[str, ...]
    labels: tuple[str, ...]
    parts: tuple[str, ...]
    split_manifests: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Audit:
    """What was found in the `rows` of `shards` that have a label; `seed` drew what was drawn.

    `near_complete` is False where the search for near duplicates left some out.
    """

    shards: Shards
    seed: int
    rows: Rows
    names: Names
    class_counts: tuple[int, ...]
    columns: tuple[Column, ...]
    outliers: tuple[Outliers, ...]
    exact: tuple[Judged, ...]
    near: tuple[Judged, ...]
    near_complete: bool
    conflicts: tuple[tuple[int, ...], ...]
    mixed: tuple[Mixed, ...]
    split_manifests: tuple[Checked, ...]
    leakage_gap: LeakageGap


def audit(data: str, task: str, seed: int, progress: Progress = lambda _done, _all: None) -> Audit:
    """Read every row of `task` of the shards at `data`, a row group at a time.

    `progress` gets (rows measured, all rows). DataError for shards that cannot be used.
    """
    shards = open_shards(data, task)
    rows, names = load_rows(data, View(task)), read_names(shards)
    measures = measure(_told(shards, len(rows.labels), progress), names.padded)
    split_manifests = check_split_manifests(data, rows.fingerprint)
    exact = _exact(shards, names, measures)
    searched = measures.textures >= UNIFORM
    once = np.zeros_like(searched)
    once[np.unique(names.hashes, return_index=True)[1]] = True  # one stands for all its copies
    pairs = near_pairs(measures.dhashes, measures.thumbs, searched & once)
    whole = Sample(measures.colours, rows.labels, rows.patients)
    return Audit(
        shards=shards,
        seed=seed,
        rows=rows,
        names=names,
        class_counts=class_counts(rows),
        columns=column_counts(rows),
        outliers=find_outliers(measures),
        exact=_judged(exact, measures, rows, split_manifests),
        near=_judged(near_groups(pairs.pairs, exact), measures, rows, split_manifests),
        near_complete=pairs.complete,
        conflicts=place_conflicts(rows),
        mixed=mixed_patients(rows),
        split_manifests=split_manifests,
        leakage_gap=measure_leakage_gap(whole, ~held_out_rows(split_manifests, rows), seed),
    )


def _told(
    shards: Shards, every: int, progress: Progress
) -> Iterator[tuple[NDArray[np.int64], Images]]:
    done = 0
    for rows, pixels in scan(shards):
        yield rows, pixels
        done += len(rows)
        progress(done, every)


def _exact(shards: Shards, names: Names, measures: Measures) -> tuple[Group, ...]:
    candidates = turned_candidates(names.hashes, measures.keys)
    turned: dict[int, bytes] = {}
    for rows, pixels in scan(shards, candidates) if len(candidates) else ():
        for row, image in zip(rows.tolist(), pixels, strict=True):
            turned[row] = canonical_hash(unpadded(image) if names.padded[row] else image)
    return exact_groups(names.hashes, turned)


def _judged(
    groups: Sequence[Group], measures: Measures, rows: Rows, split_manifests: Sequence[Checked]
) -> tuple[Judged, ...]:
    members = [group.rows for group in groups]
    torn = {one.name: crossings(one, rows, members) for one in split_manifests}

    def texts(values: NDArray[np.str_], group: Group) -> tuple[str, ...]:
        return tuple(sorted(set(values[list(group.rows)].tolist()) - {""}))

    classes = np.array(rows.class_names)
    return tuple(
        Judged(
            group,
            bool(measures.textures[group.rows[0]] < EMPTY),
            texts(rows.patients, group),
            texts(classes[rows.labels], group),
            texts(rows.parts, group),
            tuple((name, found[at]) for name, found in torn.items() if at in found),
        )
        for at, group in enumerate(groups)
    )
