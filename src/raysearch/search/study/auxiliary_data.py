"""Auxiliary shards: patches of other patients that trials train on and never validate on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raysearch.data.audit.train_test_overlap import (
    common_patients,
    matches_text,
    pixel_matches,
    read_origins,
)
from raysearch.data.files import Folder
from raysearch.data.shards.rows import Rows, View, load_rows
from raysearch.data.splits.split_creation import held_out_patients
from raysearch.errors import DataError
from raysearch.models import is_bag_shape
from raysearch.search.study.plan import Auxiliary


def find_auxiliary(address: str, view: View, data: str) -> Auxiliary:
    """Check the auxiliary shards at `address` against the study's shards at `data`.

    Args:
        address: Address of the auxiliary shards.
        view: The rows that the study sees of its own shards.
        data: Address of the study's shards.

    Raises:
        DataError: If a patient or a patch is also one of the study's, the held-out ones included,
            or the patches or classes are not of its kind.
    """
    held_out = tuple(sorted(held_out_patients(address)))
    study_rows = load_rows(data, View(view.task))
    auxiliary_rows = load_rows(address, View(held_out=held_out))
    if is_bag_shape(study_rows.shape):
        raise DataError(
            f"auxiliary {address}: the study's shards have features of slides, and it trains on no"
            " others; remove `auxiliary`"
        )
    if auxiliary_rows.shape != study_rows.shape:
        raise DataError(
            f"auxiliary {address}: patches of {_size(auxiliary_rows)}, but the study's are of"
            f" {_size(study_rows)}; shard them again with --size"
        )
    patients = common_patients(
        read_origins(address, View(held_out=held_out)), read_origins(data, View(view.task))
    )
    if patients:
        raise DataError(
            f"auxiliary {address}: patient {patients[0]!r} is in the study, too, and would"
            " be in training and validation; use shards of other patients"
        )
    matches = pixel_matches(read_origins(address), read_origins(data))
    if matches:
        raise DataError(
            f"auxiliary {address}: {len(matches):,} of its patches are in the study, too,"
            f" under other patients ({matches_text(matches)}); use shards of other images"
        )
    unknown_classes = set(auxiliary_rows.class_names) - set(study_rows.class_names)
    if unknown_classes:
        raise DataError(
            f"auxiliary {address}: class {min(unknown_classes)!r} is none of"
            f" {', '.join(study_rows.class_names)}; use the same names by --classes"
        )
    return Auxiliary(
        data=Folder(address).address,  # absolute: workers have other working directories
        fingerprint=auxiliary_rows.fingerprint,
        rows=len(auxiliary_rows.labels),
        held_out=held_out,
        warnings=auxiliary_rows.warnings,
    )


def mapped_labels(rows: Rows, class_names: tuple[str, ...]) -> NDArray[np.int64]:
    """The labels of `rows` as indices of the study's `class_names`."""
    indices = np.array([class_names.index(name) for name in rows.class_names], np.int64)
    return np.asarray(indices[rows.labels])


def _size(rows: Rows) -> str:
    return "x".join(map(str, rows.shape))
