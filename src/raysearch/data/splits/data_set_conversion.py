"""Converts a data set of an older format version: its shards, splits and test-set access log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from raysearch.data.atomic_directory import atomic_directory
from raysearch.data.files import Folder
from raysearch.data.shards.shard_conversion import convert_shards, read_old_manifest
from raysearch.data.shards.shard_manifest import Manifest
from raysearch.data.splits.access_log import ACCESS_LOG
from raysearch.data.splits.split_manifest import read_split_manifest, split_manifest_names
from raysearch.errors import DataError

Progress = Callable[[int, int], None]


def convert_data_set(
    source: str, out: Path, progress: Progress = lambda _done, _total: None
) -> tuple[Manifest, list[str]]:
    """Convert the shards at `source` to the current format version in the new folder `out`.

    The split manifests name the fingerprint of the new shards; their groups, and with them the
    held-out test set, stay as they are. The test-set access log is copied.

    Args:
        source: The address of the older shards.
        out: The folder for the new shards; it must not exist, or be empty.
        progress: Is called with (rows done, all rows).

    Returns:
        The new manifest, and a message for each split manifest that was left out.

    Raises:
        DataError: If the shards are of the current or an unknown version, or damaged, or `out`
            cannot be written.
    """
    old = read_old_manifest(Folder(source))
    with atomic_directory(out) as partial:
        manifest = convert_shards(old, partial, progress)
        folder, left_out = Folder(partial), []
        for name in split_manifest_names(old.folder):
            try:
                split_manifest = read_split_manifest(old.folder, name, old.fingerprint)
            except DataError as error:
                left_out.append(str(error))
                continue
            replace(split_manifest, fingerprint=manifest.fingerprint).write(folder, name)
        for name in old.folder.names(ACCESS_LOG):
            log = f"{ACCESS_LOG}/{name}"
            for file in old.folder.names(log):
                folder.write(f"{log}/{file}", old.folder.read(f"{log}/{file}"))
    return manifest, left_out
