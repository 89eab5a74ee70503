"""The book of openings: who judged a champion by the held-out groups of a split manifest, and when.

Each is a file of its own beside the split manifest, so that none can be written over another.
"""

from __future__ import annotations

import getpass
import json
import socket
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from raysearch.data.files import Folder
from raysearch.data.shards.shard_manifest import MALFORMED
from raysearch.data.splits.split_manifest import FOLDER
from raysearch.errors import DataError

OPENINGS = f"{FOLDER}/openings"


@dataclass(frozen=True)
class TestSetAccess:
    """One look at the held-out groups: when (ISO 8601), by whom, and with which champion of `study`.

    `identity` is the study's, `locked` what was fixed with its champion before.
    """

    at: str
    by: str
    study: str
    identity: str
    champion: str
    locked: Mapping[str, Any]

    @classmethod
    def now(
        cls, study: str, identity: str, champion: str, locked: Mapping[str, Any]
    ) -> TestSetAccess:
        """One by this user on this machine."""
        at = datetime.now(UTC).isoformat(timespec="seconds")
        by = f"{getpass.getuser()}@{socket.gethostname()}"
        return cls(at, by, study, identity, champion, dict(locked))

    def same_champion(self, other: TestSetAccess) -> bool:
        """Whether `other` judged the same trial, with all that is locked of it."""
        return (self.champion, self.judged) == (other.champion, other.judged)

    @property
    def judged(self) -> dict[str, Any]:
        """What is locked and tells two champions apart, not how often one was trained again."""
        return {"kind": "refit", **{k: v for k, v in self.locked.items() if k != "repeats"}}


def test_set_accesses(folder: Folder, name: str) -> list[TestSetAccess]:
    """Every opening of the held-out groups of the split manifest `name` in `folder`, the first one first.

    DataError where the book is damaged: it is not to be taken for an empty one.
    """
    place = f"{OPENINGS}/{name}"
    found = []
    for file in folder.names(place):
        try:
            found.append(TestSetAccess(**json.loads(folder.read(f"{place}/{file}"))))
        except MALFORMED:
            raise DataError(
                f"{folder.path(f'{place}/{file}')}: damaged; restore it from a copy"
            ) from None
    return sorted(found, key=lambda one: one.at)


def record_test_set_access(opening: TestSetAccess, folder: Folder, name: str) -> None:
    """Write `opening` into the book of the split manifest `name` in `folder`."""
    file = f"{opening.at.replace(':', '')}-{uuid.uuid4().hex[:8]}.json"
    folder.write(f"{OPENINGS}/{name}/{file}", json.dumps(asdict(opening), indent=1).encode())
