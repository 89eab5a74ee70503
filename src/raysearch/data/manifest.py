"""What a folder of shards says of itself."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from raysearch.data.files import Folder
from raysearch.errors import DataError

NAME = "manifest.json"
VERSION = 1


@dataclass(frozen=True)
class Shard:
    """One Parquet file: its name, its rows, its size in bytes and the SHA-256 of them."""

    name: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """Counts, classes, shape (H, W, 3) and a hash a shard; rows + refused = files."""

    version: int
    format: str
    source: str
    files: int
    rows: int
    refused: int
    patients: int
    shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    class_counts: tuple[int, ...]
    fitted: dict[str, int]
    warnings: tuple[str, ...]
    shards: tuple[Shard, ...]

    @property
    def fingerprint(self) -> str:
        """One hash over the hashes of all the shards."""
        text = "\n".join(shard.sha256 for shard in self.shards)
        return hashlib.sha256(text.encode()).hexdigest()

    def dump(self) -> bytes:
        """The manifest as JSON."""
        return json.dumps({**asdict(self), "fingerprint": self.fingerprint}, indent=1).encode()


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
        for name in ("shape", "class_names", "class_counts", "warnings"):
            stored[name] = tuple(stored[name])
        manifest = Manifest(**stored)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DataError(f"{folder.path(NAME)}: not a manifest; {again}") from None
    counted = sum(shard.rows for shard in manifest.shards) == manifest.rows
    if manifest.version != VERSION or manifest.fingerprint != fingerprint or not counted:
        raise DataError(f"{folder.path(NAME)}: changed, or of another version; {again}")
    return manifest
