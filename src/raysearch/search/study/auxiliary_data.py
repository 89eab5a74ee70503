"""Shards of other patients that a study learns from beside its own, and is never judged by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raysearch.data.files import Folder
from raysearch.data.patches import Rows, load_hashes, load_rows
from raysearch.data.splits.split_creation import held_out_patients
from raysearch.data.view import View
from raysearch.errors import DataError


@dataclass(frozen=True)
class Auxiliary:
    """A folder of shards beside a study's own; `fingerprint` is the hash over them.

    `held_out` are its own test patients, which nobody learns from here either.
    """

    data: str
    fingerprint: str
    rows: int
    held_out: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def view(self) -> View:
        """What a study sees of it."""
        return View(held_out=self.held_out)


def find_auxiliary(address: str, view: View, data: str) -> Auxiliary:
    """What the shards at `address` can add to a study that sees those at `data` by `view`.

    DataError where a patient or a patch of theirs is one of the study's, held-out ones among them,
    and where the patches or the classes are not of its kind.
    """
    held_out = tuple(sorted(held_out_patients(address)))
    own, other = load_rows(data, View(view.task)), load_rows(address, View(held_out=held_out))
    if other.shape != own.shape:
        raise DataError(
            f"auxiliary {address}: patches of {'x'.join(map(str, other.shape))}, the study's are"
            f" {'x'.join(map(str, own.shape))}; shard them again with --size"
        )
    both = set(other.patients.tolist()) & set(own.patients.tolist())
    if both:
        raise DataError(
            f"auxiliary {address}: patient {min(both)!r} is in the study, too, and would be learned"
            " from where it is judged; give shards of other patients"
        )
    same = np.intersect1d(load_hashes(data), load_hashes(address))
    if len(same):
        raise DataError(
            f"auxiliary {address}: {len(same):,} of its patches are in the study, too, under other"
            " patients; give shards of other images"
        )
    unknown = set(other.class_names) - set(own.class_names)
    if unknown:
        raise DataError(
            f"auxiliary {address}: class {min(unknown)!r} is none of {', '.join(own.class_names)};"
            " give both the same names by --classes"
        )
    place = Folder(address).address  # workers have other working directories
    return Auxiliary(place, other.fingerprint, len(other.labels), held_out, other.warnings)


def mapped_labels(rows: Rows, class_names: tuple[str, ...]) -> NDArray[np.int64]:
    """The labels of `rows` as numbers of the study's `class_names`."""
    places = np.array([class_names.index(name) for name in rows.class_names], np.int64)
    return np.asarray(places[rows.labels])
