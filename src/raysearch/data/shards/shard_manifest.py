"""The manifest of a folder of shards: counts, classes and the hash of each shard.

Its fingerprint is one hash over the manifest and, by their hashes, over the shards. A part of the
product that older readers would misread adds its name to `requires`; what they may ignore, it
adds to `extensions`.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property

from pydantic import JsonValue, TypeAdapter, ValidationError

from raysearch.config.json_values import parse_json
from raysearch.config.names import LABEL
from raysearch.data.files import Folder
from raysearch.errors import DataError, shortened
from raysearch.metrics.row_units import PATCHES, SLIDES

MANIFEST_FILE = "manifest.json"
VERSION = 4
# The versions that `raysearch shard FOLDER OUT` converts.
CONVERTIBLE_VERSIONS = (1, 2, 3)
# The names in `requires` that this version of the product reads.
# `bags`: a row is a slide, with the features of its patches in place of pixels.
# `tiles`: a row is a tile of a slide, with its resolution, its tissue and the slide's scanner.
BAGS, TILES = "bags", "tiles"
FEATURES = frozenset((BAGS, TILES))
# Of bags: the numbers of features and of patches, and the entry in `extensions` with the number of
# the patches of all slides.
MAX_FEATURES, MAX_PATCHES, NUM_PATCHES = 65_536, 10**7, "patches"
FEATURE_BYTES = 2
# The name in `extensions` of the patches that the user left out: name to reason.
EXCLUDED = "excluded"
# The name in `extensions` of the side of the square on which the labels depend, in pixels.
CENTER = "center"
# The name in `extensions` of how slides were cut into tiles: the fields of `TileSettings`.
TILE_SETTINGS = "tile_settings"
# The sides of a patch, in pixels.
MAX_SIDE = 4096
CHANNELS = 3
SHARD_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*\.parquet")
SHA256 = re.compile(r"[0-9a-f]{64}")
# Not part of the fingerprint: the same images in another folder are the same data.
ADDRESS = "source"
RESHARD = "copy it again, or shard the images again with `raysearch shard`"


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
class TileSettings:
    """How slides were cut into tiles, so that a model can be given tiles of the same kind.

    Attributes:
        mpp: The side of a pixel of the tiles, in micrometres.
        overlap: By how many pixels neighboring tiles overlap.
        min_tissue: The smallest fraction of tissue of a tile.
    """

    mpp: float
    overlap: int
    min_tissue: float


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
        shape: (height, width, channels) of a patch. Of bags, (N, D, 1): the median number of
            patches of a slide, and the number of features.
        class_names: The classes of the default task.
        class_counts: Number of rows with each of these classes.
        tasks: The additional tasks.
        resize_modes: Resize mode to the number of rows.
        warnings: Warnings about the source.
        shards: The shards in order.
        image_changes: What was changed in images, other than their size, to the number of rows.
        rejections: Why images were not decoded, to the number of files.
        requires: The features that a reader must know, see `FEATURES`.
        extensions: Further content by name, which a reader may ignore.
        pseudonyms: Identifier of the key of the pseudonyms that the shards have instead of names;
            empty if they have the names of the source.
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
    image_changes: Mapping[str, int] = field(default_factory=dict)
    rejections: Mapping[str, int] = field(default_factory=dict)
    pseudonyms: str = ""
    requires: tuple[str, ...] = ()
    extensions: Mapping[str, JsonValue] = field(default_factory=dict)

    @cached_property
    def fingerprint(self) -> str:
        """One hash of the whole content but the address of the source."""
        content = {name: value for name, value in asdict(self).items() if name != ADDRESS}
        return _hash(content)

    @property
    def excluded(self) -> Mapping[str, str]:
        """The patches that the user left out of the shards, each with the reason."""
        excluded = self.extensions.get(EXCLUDED, {})
        return (
            {}
            if not isinstance(excluded, dict)
            else {name: str(reason) for name, reason in excluded.items()}
        )

    @property
    def center(self) -> int | None:
        """The side of the square in the center of a patch on which its label depends, in pixels.

        None if the label depends on the whole patch.
        """
        center = self.extensions.get(CENTER)
        return center if type(center) is int else None

    @property
    def has_tiles(self) -> bool:
        """Whether a row is a tile of a slide, with the columns of one."""
        return TILES in self.requires

    @property
    def tile_settings(self) -> TileSettings | None:
        """How slides were cut into the rows; None if the rows are no tiles."""
        if not self.has_tiles:
            return None
        return TypeAdapter(TileSettings).validate_python(self.extensions.get(TILE_SETTINGS))

    @property
    def is_bags(self) -> bool:
        """Whether a row is a slide, with the features of its patches in place of pixels."""
        return BAGS in self.requires

    @property
    def unit(self) -> str:
        """What a row is: `SLIDES` or `PATCHES`."""
        return SLIDES if self.is_bags else PATCHES

    @property
    def patch_bytes(self) -> int:
        """The bytes of a patch's pixels; of bags, of its features, which are float16."""
        return FEATURE_BYTES * self.shape[1] if self.is_bags else math.prod(self.shape)

    @property
    def num_patches(self) -> int:
        """The patches of all rows: one of each, or those of the slides."""
        count = self.extensions.get(NUM_PATCHES)
        return count if self.is_bags and isinstance(count, int) else self.rows

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
        """The manifest as JSON, with its fingerprint, and a checksum that includes the source."""
        content = {**asdict(self), "fingerprint": self.fingerprint}
        return json.dumps({**content, "checksum": _hash(content)}, indent=1).encode()


def _hash(content: object) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def label_column(task: str) -> str:
    """The column of the labels of `task`."""
    return LABEL if task == LABEL else f"{LABEL}_{task}"


def read_manifest(folder: Folder) -> Manifest:
    """Read and check the manifest of the shards in `folder`.

    Raises:
        DataError: If there is no manifest, it is changed or damaged, contradicts itself, has
            another format version, or requires an unknown feature.
    """
    path = folder.path(MANIFEST_FILE)
    stored = read_stored_manifest(folder)
    version = stored.get("version") if isinstance(stored, dict) else None
    if version in CONVERTIBLE_VERSIONS:
        raise DataError(
            f"{path}: format version {version}, and this raysearch reads {VERSION}; convert it with"
            f" `raysearch shard {folder.address} NEW_FOLDER`"
        )
    if version != VERSION:
        raise DataError(f"{path}: not a manifest of format version {VERSION}; {RESHARD}")
    _check_requirements(stored, path)
    manifest, is_unchanged = _decode(stored, path)
    if not is_unchanged:
        raise DataError(f"{path}: changed; {RESHARD}")
    reject_contradictions(manifest, path)
    return manifest


def reject_contradictions(manifest: Manifest, path: str) -> None:
    """Raise DataError, which names `path`, if the manifest contradicts itself."""
    error = next(_errors(manifest), None)
    if error:
        raise DataError(f"{path}: {error}; {RESHARD}")


def read_stored_manifest(folder: Folder) -> object:
    """Read the JSON of the manifest of the shards in `folder`, of any format version.

    Raises:
        DataError: If there is no manifest, or it is no JSON.
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
    try:
        stored = parse_json(folder.read(MANIFEST_FILE))
    except ValueError:
        raise DataError(f"{folder.path(MANIFEST_FILE)}: not a manifest; {RESHARD}") from None
    return stored


def _check_requirements(stored: object, path: str) -> None:
    """Raise DataError if the manifest requires a feature that this version does not have."""
    requires = stored.get("requires") if isinstance(stored, dict) else None
    names = map(str, requires) if isinstance(requires, list) else ()
    unknown = sorted(set(names) - FEATURES)
    if unknown:
        raise DataError(
            f"{path}: requires {', '.join(unknown)}, which this version of raysearch does not read;"
            " update raysearch"
        )


def _decode(stored: object, path: str) -> tuple[Manifest, bool]:
    """Read the JSON that `Manifest.dump` returns; also whether its hashes are right.

    Raises:
        DataError: If a field is missing, unknown, or of another type.
    """
    try:
        values = dict(TypeAdapter(dict[str, JsonValue]).validate_python(stored))
        checksum, fingerprint = values.pop("checksum"), values["fingerprint"]
        is_unchanged = checksum == _hash(values)
        # The source may be a path that is not UTF-8, which pydantic rejects.
        source = values.pop(ADDRESS)
        del values["fingerprint"]
        text = json.dumps({**values, ADDRESS: ""})
        manifest = TypeAdapter(Manifest).validate_json(text, strict=True)
        manifest = replace(manifest, source=str(source))
    except (ValidationError, ValueError, KeyError, TypeError, RecursionError):
        raise DataError(f"{path}: not a manifest; {RESHARD}") from None
    return manifest, is_unchanged and manifest.fingerprint == fingerprint


def _errors(manifest: Manifest) -> Iterator[str]:
    """Every contradiction in a manifest, as the part of a message."""
    height, width, channels = manifest.shape
    if manifest.is_bags:
        yield from _bag_errors(manifest)
    elif not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE and channels == CHANNELS):
        yield f"shape {manifest.shape} is not (height, width, {CHANNELS}), 1 to {MAX_SIDE} a side"
    names = [shard.name for shard in manifest.shards]
    if not all(map(SHARD_NAME.fullmatch, names)) or len(set(names)) < len(names):
        yield "a shard is not named NAME.parquet, without a folder, or a name occurs twice"
    for shard in manifest.shards:
        if not SHA256.fullmatch(shard.sha256):
            yield f"{shard.name} has no SHA-256"
        if shard.rows < 1 or shard.bytes < shard.rows * manifest.patch_bytes:
            yield f"{shard.name} has too few bytes for {shard.rows:,} rows"
    center, max_center = manifest.extensions.get(CENTER), min(height, width)
    if center is not None and not (type(center) is int and 1 <= center <= max_center):
        yield f"`extensions` has a center of {shortened(center)}, not of 1 to {max_center} pixels"
    if manifest.has_tiles:
        try:
            TypeAdapter(TileSettings).validate_python(manifest.extensions.get(TILE_SETTINGS))
        except ValidationError:
            yield f"`extensions` has no {TILE_SETTINGS} of slides"
    yield from _count_errors(manifest)


def _bag_errors(manifest: Manifest) -> Iterator[str]:
    height, width, channels = manifest.shape
    if not (1 <= height <= MAX_PATCHES and 1 <= width <= MAX_FEATURES and channels == 1):
        yield (
            f"shape {manifest.shape} is not (patches, features, 1), with at most {MAX_FEATURES:,}"
            " features"
        )
    if type(manifest.extensions.get(NUM_PATCHES)) is not int:
        yield f"`extensions` has no number of {NUM_PATCHES}"
    if not manifest.rows <= manifest.num_patches <= manifest.rows * MAX_PATCHES:
        yield f"{manifest.num_patches:,} patches for {manifest.rows:,} slides"
    if sum(shard.bytes for shard in manifest.shards) < manifest.num_patches * manifest.patch_bytes:
        yield f"its shards have too few bytes for {manifest.num_patches:,} patches"


def _count_errors(manifest: Manifest) -> Iterator[str]:
    if manifest.rows < 1 or manifest.rows != sum(shard.rows for shard in manifest.shards):
        yield "its number of rows is not the sum over its shards"
    if manifest.rejected < 0 or manifest.files != manifest.rows + manifest.rejected:
        yield "rows and rejected files do not add up to the files"
    if not 1 <= manifest.patients <= manifest.rows:
        yield f"{manifest.patients:,} patients for {manifest.rows:,} rows"
    tasks = (TaskCounts(LABEL, manifest.class_names, manifest.class_counts), *manifest.tasks)
    if len(set(manifest.task_names)) < len(tasks):
        yield "a task is listed twice"
    for task in tasks:
        counts, class_names = task.class_counts, task.class_names
        if len(set(class_names)) < len(class_names) or len(counts) != len(class_names):
            yield f"classes and counts of task {task.name} do not match"
        if min(counts, default=0) < 0 or sum(counts) > manifest.rows:
            yield f"counts of task {task.name} are not those of {manifest.rows:,} rows"
    if sum(manifest.resize_modes.values()) != manifest.rows:
        yield "resize modes are not those of its rows"
    if min(manifest.resize_modes.values(), default=0) < 0:
        yield "a number of resized rows is negative"
