"""Runs every measurement of an audit on a set of shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from raysearch.data.array_cache import ArrayCache
from raysearch.data.audit.duplicates import (
    MIN_TEXTURE_STD,
    DuplicateRows,
    canonical_hash,
    exact_duplicates,
    near_duplicates,
    near_pairs,
    transform_candidates,
)
from raysearch.data.audit.leakage_gap import ColorSamples, LeakageGap, measure_leakage_gap
from raysearch.data.audit.outliers import MAX_UNIFORM_STD, Outliers, find_outliers
from raysearch.data.audit.patch_features import (
    PatchFeatures,
    compute_patch_features,
    concatenated,
    features_from_arrays,
)
from raysearch.data.audit.row_statistics import (
    ColumnCounts,
    MixedPatient,
    class_counts,
    column_counts,
    mixed_patients,
    position_conflicts,
)
from raysearch.data.audit.shard_reader import (
    LabeledShards,
    RowSources,
    iter_row_group_readers,
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
from raysearch.data.step_progress import StepCallback, StepProgress, ignore_progress
from raysearch.metrics.row_units import PATCHES

READING, MEASURING = "Reading the labels", "Measuring the patches"
COMPARING_TURNED, COMPARING_NEAR = "Comparing turned copies", "Comparing similar patches"
MODELING, FINISHING = "Training the color models", "Collecting the results"
MODELS = "models"
# The steps in the cache.
FEATURES, CANONICAL_HASHES = "features", "hashes"
HASH_BYTES = 32


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
    data: str,
    task: str,
    seed: int,
    on_progress: StepCallback = ignore_progress,
) -> Audit:
    """Audit every labeled row of a set of shards, one row group at a time.

    An audit that was interrupted continues after its last row group.

    Args:
        data: Folder of the shards.
        task: Name of the task whose labels are audited.
        seed: Seed of samples and folds.
        on_progress: Called with the number of patches or models of a step that are done.

    Raises:
        DataError: If the shards cannot be used.
    """
    on_progress(StepProgress(READING, 0, 0, PATCHES))
    shards = open_shards(data, task)
    rows, sources = load_rows(data, View(task)), read_row_sources(shards)
    cache = ArrayCache("audit", rows.fingerprint, task)
    features = _patch_features(shards, sources, cache, on_progress)
    split_checks = verify_split_manifests(data, rows.fingerprint)
    exact = _exact_duplicates(shards, sources, features, cache, on_progress)
    has_structure = features.channel_stds >= MAX_UNIFORM_STD
    is_first_copy = np.zeros_like(has_structure)
    is_first_copy[np.unique(sources.pixel_hashes, return_index=True)[1]] = True
    pairs = near_pairs(
        features.difference_hashes,
        features.thumbnails,
        has_structure & is_first_copy,
        lambda done, total: on_progress(StepProgress(COMPARING_NEAR, done, total, PATCHES)),
    )
    near = near_duplicates(pairs.pairs, exact)
    samples = ColorSamples(features.color_statistics, rows.labels, rows.patients)
    gap = measure_leakage_gap(
        samples,
        ~held_out_mask(split_checks, rows),
        seed,
        lambda done, total: on_progress(StepProgress(MODELING, done, total, MODELS)),
    )
    on_progress(StepProgress(FINISHING, 0, 0, PATCHES))
    audit = Audit(
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
        leakage_gap=gap,
    )
    cache.remove()
    return audit


def _patch_features(
    shards: LabeledShards, sources: RowSources, cache: ArrayCache, on_progress: StepCallback
) -> PatchFeatures:
    """Compute the features of all rows, without the row groups that the cache has."""
    num_rows, num_done, blocks = len(sources.files), 0, list[PatchFeatures]()
    for rows, read_pixels in iter_row_group_readers(shards):
        on_progress(StepProgress(MEASURING, num_done, num_rows, PATCHES))
        name = f"{FEATURES}-{rows[0]:09d}"
        block = features_from_arrays(cache.read(name) or {}, len(rows))
        if block is None:
            block = compute_patch_features([(rows, read_pixels())], sources.padded)
            cache.write(name, asdict(block))
        blocks.append(block)
        num_done += len(rows)
    return concatenated(blocks)


def _exact_duplicates(
    shards: LabeledShards,
    sources: RowSources,
    features: PatchFeatures,
    cache: ArrayCache,
    on_progress: StepCallback,
) -> tuple[DuplicateRows, ...]:
    """Find the identical patches, and with the hashes of all turns the rotated and flipped ones."""
    candidates = transform_candidates(sources.pixel_hashes, features.histogram_hashes)
    canonical_hashes: dict[int, bytes] = {}
    for rows, read_pixels in iter_row_group_readers(shards, candidates) if len(candidates) else ():
        num_done = len(canonical_hashes)
        on_progress(StepProgress(COMPARING_TURNED, num_done, len(candidates), PATCHES))
        name = f"{CANONICAL_HASHES}-{rows[0]:09d}"
        stored = (cache.read(name) or {}).get("hashes")
        if stored is None or stored.shape != (len(rows), HASH_BYTES) or stored.dtype != np.uint8:
            hashes = [
                canonical_hash(remove_padding(image) if sources.padded[row] else image)
                for row, image in zip(rows.tolist(), read_pixels(), strict=True)
            ]
            stored = np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, HASH_BYTES)
            cache.write(name, {"hashes": stored})
        for row, row_hash in zip(rows.tolist(), stored, strict=True):
            canonical_hashes[row] = row_hash.tobytes()
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
