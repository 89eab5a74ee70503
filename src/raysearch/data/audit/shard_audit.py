"""Runs every measurement of an audit on a set of shards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raysearch.data.audit.duplicates import (
    DuplicateRows,
    canonical_hash,
    exact_duplicates,
    near_duplicates,
    near_pairs,
    transform_candidates,
)
from raysearch.data.audit.leakage_gap import ColorSamples, LeakageGap, measure_leakage_gap
from raysearch.data.audit.outliers import MAX_UNIFORM_STD, Outliers, find_outliers
from raysearch.data.audit.patch_features import PatchFeatures, compute_patch_features
from raysearch.data.audit.row_statistics import (
    ColumnCounts,
    MixedPatient,
    class_counts,
    column_counts,
    mixed_patients,
    position_conflicts,
)
from raysearch.data.audit.shard_reader import (
    Images,
    LabeledShards,
    RowSources,
    iter_row_groups,
    open_shards,
    read_row_sources,
    remove_padding,
)
from raysearch.data.audit.split_integrity import (
    SplitManifestCheck,
    duplicates_across_splits,
    held_out_mask,
    verify_split_manifests,
)
from raysearch.data.shards.rows import Rows, View, load_rows

# Below this standard deviation within channels, a patch has a single color. Two such patches can
# have identical pixels without showing the same tissue.
MIN_TEXTURE_STD = 1.0
ProgressCallback = Callable[[int, int], None]


@dataclass(frozen=True)
class SplitCrossing:
    """The name of a split manifest and its two sides that duplicates are on."""

    split_manifest: str
    sides: str


@dataclass(frozen=True)
class DuplicateGroup:
    """A group of duplicate rows, with the values that its rows have.

    Attributes:
        rows: Row numbers, ascending.
        kind: Kind of duplicate.
        single_color: Whether the patches have a single color.
        patients: Distinct patients, sorted.
        class_names: Distinct classes, sorted.
        official_splits: Distinct parts of the official split, sorted.
        crossings: Split manifests that have rows of the group on both sides.
    """

    rows: tuple[int, ...]
    kind: str
    single_color: bool
    patients: tuple[str, ...]
    class_names: tuple[str, ...]
    official_splits: tuple[str, ...]
    crossings: tuple[SplitCrossing, ...]

    def crossing(self, split_manifest: str) -> SplitCrossing | None:
        """Return the crossing of the split manifest of that name."""
        matches = [item for item in self.crossings if item.split_manifest == split_manifest]
        return matches[0] if matches else None


@dataclass(frozen=True)
class Audit:
    """All measurements of the labeled rows of a set of shards.

    Attributes:
        shards: The audited shards.
        seed: Seed of samples and folds.
        rows: Labels and groups of the rows.
        sources: Origin of the rows.
        class_counts: Number of rows of each class.
        columns: Distribution of the rows over the values of each column.
        outliers: Rows of each kind of outlier.
        exact_duplicates: Groups of identical, rotated or flipped patches.
        near_duplicates: Groups of near-identical patches.
        near_search_complete: Whether the search for near duplicates compared all candidates.
        position_conflicts: Rows of each position that has several labels.
        mixed_patients: Patients with several labels.
        split_manifests: Result of verifying each split manifest.
        leakage_gap: Scores of a color model with random and with patient-grouped folds.
    """

    shards: LabeledShards
    seed: int
    rows: Rows
    sources: RowSources
    class_counts: tuple[int, ...]
    columns: tuple[ColumnCounts, ...]
    outliers: tuple[Outliers, ...]
    exact_duplicates: tuple[DuplicateGroup, ...]
    near_duplicates: tuple[DuplicateGroup, ...]
    near_search_complete: bool
    position_conflicts: tuple[tuple[int, ...], ...]
    mixed_patients: tuple[MixedPatient, ...]
    split_manifests: tuple[SplitManifestCheck, ...]
    leakage_gap: LeakageGap

    @property
    def size_text(self) -> str:
        """The patch size in pixels and the number of images of each resize mode."""
        manifest = self.shards.manifest
        modes = ", ".join(f"{count:,} {mode}" for mode, count in manifest.resize_modes.items())
        return f"{manifest.shape[1]}x{manifest.shape[0]}: {modes}"


def audit_shards(
    data: str, task: str, seed: int, on_progress: ProgressCallback = lambda _done, _total: None
) -> Audit:
    """Audit every labeled row of a set of shards, one row group at a time.

    Args:
        data: Folder of the shards.
        task: Name of the task whose labels are audited.
        seed: Seed of samples and folds.
        on_progress: Called with (number of measured rows, number of all rows).

    Raises:
        DataError: If the shards cannot be used.
    """
    shards = open_shards(data, task)
    rows, sources = load_rows(data, View(task)), read_row_sources(shards)
    batches = _with_progress(shards, len(rows.labels), on_progress)
    features = compute_patch_features(batches, sources.padded)
    split_checks = verify_split_manifests(data, rows.fingerprint)
    exact = _exact_duplicates(shards, sources, features)
    has_structure = features.channel_stds >= MAX_UNIFORM_STD
    is_first_copy = np.zeros_like(has_structure)
    is_first_copy[np.unique(sources.pixel_hashes, return_index=True)[1]] = True
    pairs = near_pairs(
        features.difference_hashes, features.thumbnails, has_structure & is_first_copy
    )
    near = near_duplicates(pairs.pairs, exact)
    samples = ColorSamples(features.color_statistics, rows.labels, rows.patients)
    return Audit(
        shards=shards,
        seed=seed,
        rows=rows,
        sources=sources,
        class_counts=class_counts(rows),
        columns=column_counts(rows),
        outliers=find_outliers(features),
        exact_duplicates=_describe_duplicates(exact, features, rows, split_checks),
        near_duplicates=_describe_duplicates(near, features, rows, split_checks),
        near_search_complete=pairs.complete,
        position_conflicts=position_conflicts(rows),
        mixed_patients=mixed_patients(rows),
        split_manifests=split_checks,
        leakage_gap=measure_leakage_gap(samples, ~held_out_mask(split_checks, rows), seed),
    )


def _with_progress(
    shards: LabeledShards, num_rows: int, on_progress: ProgressCallback
) -> Iterator[tuple[NDArray[np.int64], Images]]:
    num_done = 0
    for rows, pixels in iter_row_groups(shards):
        yield rows, pixels
        num_done += len(rows)
        on_progress(num_done, num_rows)


def _exact_duplicates(
    shards: LabeledShards, sources: RowSources, features: PatchFeatures
) -> tuple[DuplicateRows, ...]:
    candidates = transform_candidates(sources.pixel_hashes, features.histogram_hashes)
    canonical_hashes: dict[int, bytes] = {}
    for rows, pixels in iter_row_groups(shards, candidates) if len(candidates) else ():
        for row, image in zip(rows.tolist(), pixels, strict=True):
            is_padded = sources.padded[row]
            canonical_hashes[row] = canonical_hash(remove_padding(image) if is_padded else image)
    return exact_duplicates(sources.pixel_hashes, canonical_hashes)


def _describe_duplicates(
    groups: Sequence[DuplicateRows],
    features: PatchFeatures,
    rows: Rows,
    split_checks: Sequence[SplitManifestCheck],
) -> tuple[DuplicateGroup, ...]:
    row_numbers = [group.rows for group in groups]
    crossings_by_manifest = {
        check.name: duplicates_across_splits(check, rows, row_numbers) for check in split_checks
    }

    def distinct(values: NDArray[np.str_], group: DuplicateRows) -> tuple[str, ...]:
        return tuple(sorted(set(values[list(group.rows)].tolist()) - {""}))

    class_names = np.array(rows.class_names)
    return tuple(
        DuplicateGroup(
            group.rows,
            group.kind,
            bool(features.channel_stds[group.rows[0]] < MIN_TEXTURE_STD),
            distinct(rows.patients, group),
            distinct(class_names[rows.labels], group),
            distinct(rows.official_splits, group),
            tuple(
                SplitCrossing(name, crossings[index])
                for name, crossings in crossings_by_manifest.items()
                if index in crossings
            ),
        )
        for index, group in enumerate(groups)
    )
