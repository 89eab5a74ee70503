"""What an interrupted sharding has finished, from which the same command continues."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from pydantic import TypeAdapter, ValidationError

from raysearch.data.files import Folder
from raysearch.data.images.decoding import Size
from raysearch.data.shards.shard_manifest import Shard
from raysearch.data.slides.companion_files import companion_files
from raysearch.data.sources.listing import Item, Listing, Rejected

STATE_FILE = "state.json"
FORMAT = 1
BLOCK_BYTES = 16 * 2**20
# Called with the number of rows that are checked, and of all rows.
CheckCallback = Callable[[int, int], None]


@dataclass(frozen=True)
class WriterState:
    """What a writer of shards has counted when it has closed a shard.

    Attributes:
        num_items: Number of the source's items that are in the shards or rejected.
        rows: Number of rows in the shards.
        labels: For each task, the numbers of its labels, each with its number of rows.
        resize_modes: Resize mode to the number of rows.
        image_changes: What was changed in images to the number of rows.
        rejections: Why images were not decoded to the number of files.
        patients: The patients, as they are written.
        rejected: The rejected files of the items, as they are written.
        shards: The shards.
    """

    num_items: int
    rows: int
    labels: tuple[tuple[tuple[int | None, int], ...], ...]
    resize_modes: Mapping[str, int]
    image_changes: Mapping[str, int]
    rejections: Mapping[str, int]
    patients: tuple[str, ...]
    rejected: tuple[tuple[str, str], ...]
    shards: tuple[Shard, ...]


def has_finished_shards(folder: Path) -> bool:
    """Whether an unfinished sharding of this account has left shards that the next one can use."""
    try:
        status = (folder / STATE_FILE).lstat()
    except OSError:  # such as the folder of another account
        return False
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()


class StateOfShards(Protocol):
    """What is known about finished shards; a frozen dataclass."""

    @property
    def rows(self) -> int:
        """Number of rows in the shards."""

    @property
    def shards(self) -> tuple[Shard, ...]:
        """The shards."""


State = TypeVar("State", bound=StateOfShards)


class UnfinishedShards(Generic[State]):
    """The state of a sharding in its folder.

    Args:
        folder: The folder of the shards.
        request: The hash of what is sharded, and how; see `sharding_request`.
        state_type: The type of the state.
    """

    def __init__(self, folder: Path, request: str, state_type: type[State]) -> None:
        self._folder, self._request = folder, request
        self._codec: TypeAdapter[State] = TypeAdapter(state_type)

    def write(self, state: State) -> None:
        """Replace the stored state."""
        fields = self._codec.dump_python(state, mode="json")
        content = {"format": FORMAT, "request": self._request, "state": fields}
        Folder(self._folder).write(STATE_FILE, json.dumps(content).encode())

    def restore(self, on_check: CheckCallback) -> State | None:
        """Return the stored state, and remove all other files of the folder.

        None if there is no state, it is of another source or of other options, or a shard is not
        the one that was written. Then all files are removed.

        Args:
            on_check: Called while the hashes of the shards are checked.
        """
        state = self._read()
        if state is not None and not self._has_shards(state, on_check):
            state = None
        names = {STATE_FILE, *(shard.name for shard in state.shards)} if state else set()
        for path in self._folder.iterdir():
            if path.name not in names and not path.is_dir():
                path.unlink()
        return state

    def remove(self) -> None:
        """Remove the state, because the shards are complete."""
        (self._folder / STATE_FILE).unlink(missing_ok=True)

    def _read(self) -> State | None:
        try:
            stored = json.loads((self._folder / STATE_FILE).read_bytes())
            if stored["format"] != FORMAT or stored["request"] != self._request:
                return None
            text = json.dumps(stored["state"])
            return self._codec.validate_json(text, strict=True)
        except (OSError, ValueError, KeyError, TypeError, ValidationError, RecursionError):
            return None

    def _has_shards(self, state: State, on_check: CheckCallback) -> bool:
        num_checked = 0
        for shard in state.shards:
            on_check(num_checked, state.rows)
            path = self._folder / Path(shard.name).name
            if not path.is_file() or path.is_symlink() or file_sha256(path) != shard.sha256:
                return False
            num_checked += shard.rows
        return True


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hex."""
    sha256 = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            sha256.update(block)
    return sha256.hexdigest()


def sharding_request(
    source: str, listing: Listing, size: Size, settings: Sequence[object], scratch: Path
) -> str:
    """Return a hash of a listing, of the sizes and times of its local files, and of the settings.

    Args:
        source: The source.
        listing: What it contains.
        size: (width, height) of the patches.
        settings: What else determines the shards.
        scratch: The folder of the unpacked files.
    """
    content: list[object] = [
        [FORMAT, source, list(size), list(settings)],
        [list(listing.class_names), [list(task) for task in listing.tasks], listing.warnings],
        [list(rejected) for rejected in (*listing.rejected, *listing.excluded)],
        _file_states(source, listing, scratch),
    ]
    request = hashlib.sha256(json.dumps(content, default=str).encode())
    for item in listing.items:  # one by one, as there are millions of tiles
        request.update(json.dumps(list(item)).encode())
    return request.hexdigest()


def _file_states(source: str, listing: Listing, scratch: Path) -> list[object]:
    """Return the folder of the items, and the size and the time of each of its local files.

    Unpacked files are new in each call. Instead of them, the files of the source are returned.
    """
    if listing.folder is None:
        return []
    if not listing.folder.is_local:
        return [listing.folder.address]
    root = listing.folder.local
    if root.is_relative_to(scratch):
        root = Folder(source).local
        paths = sorted(root.iterdir()) if root.is_dir() else [root]
    elif listing.slides is not None:
        slides = [root / name for name in sorted({_slide_file(item) for item in listing.items})]
        paths = sorted({path for slide in slides for path in (slide, *companion_files(slide))})
    else:
        paths = sorted({_local_file(root, item.file) for item in listing.items})
    return [str(root), *map(_file_state, paths)]


def _slide_file(item: Item) -> str:
    """Return the file of the slide of a tile."""
    return item.file.rpartition("#")[0]


def _local_file(root: Path, name: str) -> Path:
    """Return the file of an item; behind `#`, some items have their place in the file."""
    path = root / name
    return path if path.exists() else root / name.rpartition("#")[0]


def _file_state(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return (0, 0)
    return status.st_size, status.st_mtime_ns


def as_rejected(entries: Sequence[tuple[str, str]]) -> list[Rejected]:
    """Convert stored entries to rejected files."""
    return [Rejected(*entry) for entry in entries]
