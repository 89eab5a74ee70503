"""The manifest of a folder of shards: counts, classes and the hash of each shard."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from raysearch.config.names import LABEL
from raysearch.data.files import Folder
from raysearch.errors import DataError

MANIFEST_FILE = "manifest.json"
VERSION = 3


@dataclass(frozen=True)
class Shard:
    """One Parquet file: its name, number of rows, size in bytes and SHA-256 in hex."""

    name: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class TaskCounts:
    """An additional task: its classes, and the number of rows with each; other rows have none."""

    name: str
    class_names: tuple[str, ...]
    class_counts: tuple[int, ...]


@dataclass(frozen=True)
class Manifest:
    """The content of a folder of shards; `rows` + `rejected` = `files`.

    Attributes:
        version: Version of the manifest's format.
        format: Format of the source.
        source: The source that was sharded.
        files: Number of files in the source.
        rows: Number of rows in the shards.
        rejected: Number of rejected files.
        patients: Number of patients.
        shape: (height, width, channels) of a patch.
        class_names: The classes of the default task.
        class_counts: Number of rows with each of these classes.
        tasks: The additional tasks.
        resize_modes: Resize mode to the number of rows.
        warnings: Warnings about the source.
        shards: The shards in order.
    """

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
    tasks: tuple[TaskCounts, ...]
    resize_modes: dict[str, int]
    warnings: tuple[str, ...]
    shards: tuple[Shard, ...]

    @property
    def fingerprint(self) -> str:
        """One hash of the hashes of all shards."""
        text = "\n".join(shard.sha256 for shard in self.shards)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def task_names(self) -> tuple[str, ...]:
        """The names of all tasks, the default task first."""
        return (LABEL, *(task.name for task in self.tasks))

    def classes_of(self, task: str) -> tuple[str, ...]:
        """The classes of `task`; DataError if the shards have no such task."""
        class_names = {
            LABEL: self.class_names,
            **{entry.name: entry.class_names for entry in self.tasks},
        }
        if task not in class_names:
            raise DataError(f"task {task!r}: these shards have {', '.join(class_names)}; name one")
        return class_names[task]

    def dump(self) -> bytes:
        """The manifest as JSON."""
        return json.dumps({**asdict(self), "fingerprint": self.fingerprint}, indent=1).encode()


def label_column(task: str) -> str:
    """The column of the labels of `task`."""
    return LABEL if task == LABEL else f"{LABEL}_{task}"


def read_manifest(folder: Folder) -> Manifest:
    """Read the manifest of the shards in `folder`.

    Raises:
        DataError: If there is no manifest, or it is changed, damaged or of another format version.
    """
    if not folder.exists():
        raise DataError(
            f"{folder.address}: no such folder; give one that `raysearch shard` has written"
        )
    if not folder.exists(MANIFEST_FILE):
        raise DataError(
            f"{folder.address}: no {MANIFEST_FILE} in it; give a folder that `raysearch shard` has"
            " written"
        )
    path, advice = folder.path(MANIFEST_FILE), "shard the images again with `raysearch shard`"
    try:
        manifest, fingerprint = _decode(folder.read(MANIFEST_FILE))
    except _VersionError as error:
        raise DataError(f"{path}: {error}; {advice}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise DataError(f"{path}: not a manifest; {advice}") from None
    num_rows = sum(shard.rows for shard in manifest.shards)
    if manifest.fingerprint != fingerprint or num_rows != manifest.rows:
        raise DataError(f"{path}: changed; {advice}")
    return manifest


class _VersionError(Exception):
    """A manifest of another format version."""


def _decode(content: bytes) -> tuple[Manifest, str]:
    """Read the JSON that `Manifest.dump` returns: the manifest, and the stored fingerprint.

    The source may be a path that is not UTF-8, which pydantic would reject.
    """
    values = json.loads(
        content,
        object_hook=lambda entries: {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in entries.items()
        },
    )
    version = values.get("version")
    if version != VERSION:
        raise _VersionError(f"format version {version}, expected {VERSION}")
    fingerprint = values.pop("fingerprint")
    shards = tuple(Shard(**shard) for shard in values.pop("shards"))
    tasks = tuple(TaskCounts(**task) for task in values.pop("tasks"))
    return Manifest(**values, tasks=tasks, shards=shards), fingerprint
