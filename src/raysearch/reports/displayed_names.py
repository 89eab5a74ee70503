"""The names of patients, slides and files that a page shows: pseudonyms, unless asked otherwise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from raysearch.data.audit.row_statistics import ColumnCounts
from raysearch.data.audit.shard_audit import Audit, DuplicateGroup
from raysearch.data.pseudonyms import DisplayedNames, PseudonymKey, key_in
from raysearch.errors import StorageError
from raysearch.search.journal.study_folder import StudyFolder


def displayed_names(folder: StudyFolder | None, *, identifiers: bool) -> DisplayedNames:
    """Return the names that a page shows.

    Args:
        folder: The folder of the page's study, whose pages share their pseudonyms. If it is None,
            or its key cannot be read or created, the pseudonyms are those of one page.
        identifiers: Whether the page shows the identifiers themselves.

    Raises:
        DataError: If the key of the study is damaged.
    """
    if identifiers:
        return DisplayedNames(None)
    if folder is None:
        return DisplayedNames(PseudonymKey.random())
    try:
        return DisplayedNames(key_in(folder, folder.PSEUDONYM_KEY))
    except (OSError, StorageError):
        return DisplayedNames(PseudonymKey.random())


def with_displayed_names(audit: Audit, names: DisplayedNames) -> Audit:
    """Replace the patients, slides, files and folders of an audit by the displayed names."""
    by_column = {"patient": names.patient, "slide": names.slide}
    manifest = audit.shards.manifest
    return replace(
        audit,
        shards=replace(
            audit.shards, manifest=replace(manifest, source=names.source(manifest.source))
        ),
        rows=replace(
            audit.rows,
            patients=_map(audit.rows.patients, names.patient),
            slides=_map(audit.rows.slides, names.slide),
        ),
        sources=replace(audit.sources, files=_map(audit.sources.files, names.file)),
        columns=tuple(
            _column(column, by_column[column.name]) if column.name in by_column else column
            for column in audit.columns
        ),
        exact_duplicates=_duplicates(audit.exact_duplicates, names),
        near_duplicates=_duplicates(audit.near_duplicates, names),
        mixed_patients=tuple(
            replace(patient, patient=names.patient(patient.patient))
            for patient in audit.mixed_patients
        ),
        split_manifests=tuple(
            replace(
                check,
                error=names.message(check.error),
                leaks=tuple(map(names.message, check.leaks)),
            )
            for check in audit.split_manifests
        ),
    )


def _map(values: NDArray[np.str_], displayed: Callable[[str], str]) -> NDArray[np.str_]:
    distinct, indices = np.unique(values, return_inverse=True)
    return np.array([displayed(value) for value in distinct.tolist()], np.str_)[indices]


def _column(column: ColumnCounts, displayed: Callable[[str], str]) -> ColumnCounts:
    largest = tuple(replace(value, name=displayed(value.name)) for value in column.largest)
    return replace(column, largest=largest)


def _duplicates(
    groups: tuple[DuplicateGroup, ...], names: DisplayedNames
) -> tuple[DuplicateGroup, ...]:
    return tuple(
        replace(group, patients=tuple(sorted(map(names.patient, group.patients))))
        for group in groups
    )
