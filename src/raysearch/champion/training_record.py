"""What a registered model keeps of its training data: no patient, no file and no folder.

An external test set must not have a patient or a patch that the model was trained on. The model
therefore has a keyed hash of each training patient, whose key stays in the study's folder, and a
part of the hash of each training patch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raysearch.data.audit.train_test_overlap import read_origins
from raysearch.data.pseudonyms import PATIENT, PseudonymKey, existing_key_in, key_in
from raysearch.data.shards.rows import View
from raysearch.errors import DataError, StorageError, StudyError, first_line
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.plan import Plan

# Two different patches agree in this part of their SHA-256 with a probability of 2^-64.
HASH_BYTES = 8
PatchHashes = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class TrainingDataRecord:
    """The training data of a model, including auxiliary shards and without the held-out test set.

    Attributes:
        key_id: The identifier of the key of `patients`.
        patients: HMAC-SHA256 of each known patient in hex, sorted; a file without one has none.
        patches: The first 8 bytes of the SHA-256 of each patch as a number, sorted, without
            repetitions, shape (patches,).
    """

    key_id: str
    patients: tuple[str, ...]
    patches: PatchHashes

    def shared_patients(self, names: NDArray[np.str_], key: PseudonymKey) -> list[str]:
        """Return the sorted patients among `names`, shape (N,), that the model was trained on.

        Raises:
            ValueError: If `key` is another one than that of the record.
        """
        if key.id != self.key_id:
            raise ValueError(f"key {key.id} instead of {self.key_id}")
        trained = set(self.patients)
        return [name for name in np.unique(names).tolist() if key.digest(PATIENT, name) in trained]

    def contains_patches(self, hashes: NDArray[np.bytes_]) -> NDArray[np.bool_]:
        """Return which of the patches with SHA-256 `hashes`, shape (N,), are training patches."""
        return np.isin(_shorten(hashes), self.patches)

    def to_content(self) -> dict[str, list[str] | str | Tensor]:
        """Convert the record to what a file of tensors and plain values can have."""
        return {
            "key_id": self.key_id,
            "patients": list(self.patients),
            "patches": torch.from_numpy(self.patches),
        }

    @classmethod
    def from_content(cls, content: object) -> TrainingDataRecord:
        """Convert what `to_content` returned.

        Raises:
            ValueError: If it is anything else.
        """
        if not isinstance(content, dict) or content.keys() != set(cls.__annotations__):
            raise ValueError("damaged (training data: other fields)")
        patients, patches, key_id = content["patients"], content["patches"], content["key_id"]
        if not (
            isinstance(key_id, str)
            and isinstance(patients, list)
            and all(isinstance(text, str) for text in patients)
            and isinstance(patches, Tensor)
            and patches.dtype == torch.int64
            and patches.ndim == 1
        ):
            raise ValueError("damaged (training data: a field has another type)")
        return cls(key_id, tuple(patients), patches.numpy())


def record_training_data(folder: StudyFolder, plan: Plan) -> TrainingDataRecord:
    """Read the training data of the study in `folder`, and make the record with the study's key.

    Raises:
        DataError: If the shards are missing or damaged.
        StudyError: If the key cannot be read or created.
    """
    try:
        key = key_in(folder, folder.PSEUDONYM_KEY)
    except (OSError, StorageError) as error:
        raise StudyError(
            f"{folder.path(folder.PSEUDONYM_KEY)}: cannot be used ({first_line(error)}); make the"
            " study's folder readable and writable"
        ) from None
    return make_training_record(plan, key)


def make_training_record(plan: Plan, key: PseudonymKey) -> TrainingDataRecord:
    """Read the training data of a study, and make the record of it with `key`.

    Raises:
        DataError: If the shards are missing or damaged.
    """
    patients: set[str] = set()
    patches: list[PatchHashes] = []
    for address, view in _shards_of(plan):
        origins = read_origins(address, view)
        patients |= origins.known_patients
        patches.append(_shorten(origins.pixel_hashes))
    return TrainingDataRecord(
        key.id,
        tuple(sorted(key.digest(PATIENT, name) for name in patients)),
        np.unique(np.concatenate(patches)),
    )


def find_key(record: TrainingDataRecord, folder: StudyFolder) -> PseudonymKey | None:
    """Find the key of a record in the folder of a study; None if it is not there."""
    try:
        key = existing_key_in(folder, folder.PSEUDONYM_KEY)
    except DataError:
        return None
    return key if key is not None and key.id == record.key_id else None


def _shards_of(plan: Plan) -> Iterator[tuple[str, View]]:
    yield plan.data, plan.view
    for shards in plan.auxiliary:
        yield shards.data, shards.view


def _shorten(hashes: NDArray[np.bytes_]) -> PatchHashes:
    """Return the first 8 bytes of each SHA-256, shape (N,), as a number."""
    first_bytes = np.ascontiguousarray(hashes).view(np.uint8).reshape(-1, hashes.itemsize)
    shortened = np.ascontiguousarray(first_bytes[:, :HASH_BYTES])
    return np.asarray(shortened.view("<i8").reshape(-1), np.int64)
