"""What a folder of shards says of itself."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from raysearch.data.files import Folder
from raysearch.errors import DataError

NAME = "manifest.json"
VERSION = 2
# The column of a row's label; that of a further task is `label_<task>`.
LABEL = "label"

# What reading JSON of another shape than ours may raise.
MALFORMED = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)


@dataclass(frozen=True)
class Shard:
    """One Parquet file: its name, its rows, its size in bytes and the SHA-256 of them."""

    name: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Task:
    """A further thing to learn from the same rows: its classes, and how many rows have each.

    Rows that have none of them are not part of it.
    """

    name: str
    class_names: tuple[str, ...]
    class_counts: tuple[int, ...]


@dataclass(frozen=True)
class Manifest:
    """Counts, classes, shape (H, W, 3) and a hash a shard; rows + rejected = files."""

    version: int
    format: str
    source: str
    files: int
    rows: int
    rejected: int
    patients: int
    shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    class_counts: tuple[int, ...]
    tasks: tuple[Task, ...]
    fitted: dict[str, int]
    warnings: tuple[str, ...]
    shards: tuple[Shard, ...]

    @property
    def fingerprint(self) -> str:
        """One hash over the hashes of all the shards."""
        text = "\n".join(shard.sha256 for shard in self.shards)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def task_names(self) -> tuple[str, ...]:
        """What can be learned from these rows, the default first."""
        return (LABEL, *(task.name for task in self.tasks))

    def classes_of(self, task: str) -> tuple[str, ...]:
        """The classes of `task`; DataError where the shards have none of that name."""
        known = {LABEL: self.class_names, **{one.name: one.class_names for one in self.tasks}}
        if task not in known:
            raise DataError(f"task {task!r}: these shards have {', '.join(known)}; name one")
        return known[task]

    def dump(self) -> bytes:
        """The manifest as JSON."""
        return json.dumps({**asdict(self), "fingerprint": self.fingerprint}, indent=1).encode()


def label_column(task: str) -> str:
    """The column of a row's label in `task`."""
    return LABEL if task == LABEL else f"{LABEL}_{task}"


def read_manifest(folder: Folder) -> Manifest:
    """The manifest of the shards in `folder`; DataError where there is none that can be used."""
    again = "shard the images again with `raysearch shard`"
    if not folder.exists():
        raise DataError(f"{folder.address}: no such folder; give one that `raysearch shard` made")
    if not folder.exists(NAME):
        raise DataError(
            f"{folder.address}: no {NAME} in it; give a folder that `raysearch shard` made"
        )
    try:
        stored = json.loads(folder.read(NAME))
        fingerprint = stored.pop("fingerprint")
        stored["shards"] = tuple(Shard(**shard) for shard in stored["shards"])
        stored["tasks"] = tuple(
            Task(one["name"], tuple(one["class_names"]), tuple(one["class_counts"]))
            for one in stored["tasks"]
        )
        for name in ("shape", "class_names", "class_counts", "warnings"):
            stored[name] = tuple(stored[name])
        manifest = Manifest(**stored)
    except MALFORMED:
        raise DataError(f"{folder.path(NAME)}: not a manifest; {again}") from None
    counted = sum(shard.rows for shard in manifest.shards) == manifest.rows
    if manifest.version != VERSION or manifest.fingerprint != fingerprint or not counted:
        raise DataError(f"{folder.path(NAME)}: changed, or of another version; {again}")
    return manifest
