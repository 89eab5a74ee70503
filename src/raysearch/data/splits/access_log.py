"""The book of openings: who judged a champion by the sealed groups of a ledger, and when.

Each is a file of its own beside the ledger, so that none can be written over another.
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
class Opening:
    """One look at the sealed groups: when (ISO 8601), by whom, and with which champion of `study`.

    `identity` is the study's, `locked` what was fixed with its champion before.
    """

    at: str
    by: str
    study: str
    identity: str
    champion: str
    locked: Mapping[str, Any]

    @classmethod
    def now(cls, study: str, identity: str, champion: str, locked: Mapping[str, Any]) -> Opening:
        """One by this user on this machine."""
        at = datetime.now(UTC).isoformat(timespec="seconds")
        by = f"{getpass.getuser()}@{socket.gethostname()}"
        return cls(at, by, study, identity, champion, dict(locked))

    def same_champion(self, other: Opening) -> bool:
        """Whether `other` judged the same trial, with all that is locked of it."""
        return (self.champion, self.judged) == (other.champion, other.judged)

    @property
    def judged(self) -> dict[str, Any]:
        """What is locked and tells two champions apart, not how often one was trained again."""
        return {"kind": "refit", **{k: v for k, v in self.locked.items() if k != "fresh_seeds"}}


def openings(folder: Folder, name: str) -> list[Opening]:
    """Every opening of the sealed groups of the ledger `name` in `folder`, the first one first.

    DataError where the book is damaged: it is not to be taken for an empty one.
    """
    place = f"{OPENINGS}/{name}"
    found = []
    for file in folder.names(place):
        try:
            found.append(Opening(**json.loads(folder.read(f"{place}/{file}"))))
        except MALFORMED:
            raise DataError(
                f"{folder.path(f'{place}/{file}')}: damaged; restore it from a copy"
            ) from None
    return sorted(found, key=lambda one: one.at)


def write_opening(opening: Opening, folder: Folder, name: str) -> None:
    """Write `opening` into the book of the ledger `name` in `folder`."""
    file = f"{opening.at.replace(':', '')}-{uuid.uuid4().hex[:8]}.json"
    folder.write(f"{OPENINGS}/{name}/{file}", json.dumps(asdict(opening), indent=1).encode())
