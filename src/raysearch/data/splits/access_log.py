"""The test-set access log: which champions were evaluated on a held-out test set, when, by whom.

Each access is a file of its own next to the split manifest, so that no access overwrites another.
The name of the file ends with a hash of its content.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import re
import socket
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

from pydantic import TypeAdapter

from raysearch.data.files import Folder
from raysearch.data.splits.split_manifest import FOLDER
from raysearch.errors import DataError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

ACCESS_LOG = f"{FOLDER}/test_access"
# A field of a champion's decision rule.
Scalar = str | int | float | None
# Further repeats of the cross-validation do not change the champion's predictions.
NOT_COMPARED = "repeats"
# Earlier versions named a file after the time and eight random digits only.
HASH_IN_NAME = re.compile(r".*-([0-9a-f]{32})\.json")


@dataclass(frozen=True)
class TestSetAccess:
    """One evaluation of a study's champion on the held-out test set.

    Attributes:
        time: Time of the access, ISO 8601 in UTC.
        user: `USER@HOST`.
        study: Name of the study.
        identity: Unique identity of the study.
        champion: The champion's trial.
        decision: The champion's frozen decision rule (temperature, threshold, ...), by field.
    """

    __test__ = False  # for pytest

    time: str
    user: str
    study: str
    identity: str
    champion: str
    decision: Mapping[str, Scalar]

    @classmethod
    def now(cls, study: str, identity: str, champion: str, decision: DataclassInstance) -> Self:
        """An access at this moment, by this user on this machine.

        Args:
            study: Name of the study.
            identity: Unique identity of the study.
            champion: The champion's trial.
            decision: The record of its decision rule; its fields are scalars.
        """
        time = datetime.now(UTC).isoformat(timespec="seconds")
        user = f"{getpass.getuser()}@{socket.gethostname()}"
        return cls(time, user, study, identity, champion, asdict(decision))

    def same_champion(self, other: TestSetAccess) -> bool:
        """Whether `other` evaluated the same trial with the same decision rule."""
        return self.champion == other.champion and not self.changed_fields(other)

    def changed_fields(self, other: TestSetAccess) -> list[str]:
        """The sorted names of the fields of the decision rule that differ from `other`."""
        names = {*self.decision, *other.decision} - {NOT_COMPARED}
        return sorted(name for name in names if self.decision.get(name) != other.decision.get(name))

    def encode(self) -> bytes:
        """The access as JSON."""
        return json.dumps(asdict(self), indent=1).encode()

    @classmethod
    def decode(cls, content: bytes) -> Self:
        """Read the JSON that `encode` returns; ValidationError for anything else."""
        return TypeAdapter(cls).validate_json(content)


def read_test_set_accesses(folder: Folder, name: str) -> list[TestSetAccess]:
    """Read every access to the test set of the split manifest `name` in `folder`, oldest first.

    Raises:
        DataError: If a file is damaged: a damaged log does not count as an empty one.
    """
    directory = f"{ACCESS_LOG}/{name}"
    accesses = []
    for file in folder.names(directory):
        try:
            content = folder.read(f"{directory}/{file}")
            named = HASH_IN_NAME.fullmatch(file)
            if named is not None and named[1] != _hash(content):
                raise ValueError("another content")
            accesses.append(TestSetAccess.decode(content))
        except (OSError, ValueError):
            raise DataError(
                f"{folder.path(f'{directory}/{file}')}: damaged; restore it from a copy"
            ) from None
    return sorted(accesses, key=lambda access: access.time)


def record_test_set_access(access: TestSetAccess, folder: Folder, name: str) -> None:
    """Write `access` to the log of the split manifest `name` in `folder`."""
    content = access.encode()
    file = f"{access.time.replace(':', '')}-{uuid.uuid4().hex[:8]}-{_hash(content)}.json"
    folder.write(f"{ACCESS_LOG}/{name}/{file}", content)


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]
