"""Finds studies by their names, and the data that a study is launched on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raysearch.data.files import Folder
from raysearch.data.scratch_folder import scratch_folder
from raysearch.errors import SpaceError, StudyError
from raysearch.search.study.stored_study import study_names

if TYPE_CHECKING:
    from rich.console import Console

SYNTHETIC = "synthetic:"
# The folder of synthetic shards, next to the studies.
SHARDS = ".shards"


def new_name(studies: str, stem: str) -> str:
    """Return `stem`, or the first of `stem-2`, `stem-3` and so on that no study has."""
    existing = set(study_names(studies))
    number, name = 1, stem
    while name in existing:
        number += 1
        name = f"{stem}-{number}"
    return name


def newest_name(studies: str) -> str:
    """Return the name of the newest study; StudyError if there is none."""
    names = study_names(studies)
    if not names:
        raise StudyError(
            f"no study in {Folder(studies).address}; run `raysearch launch` here, or give --studies"
        )
    return names[-1]


def resolve_data(option: str | None, space_data: str | None, studies: str, console: Console) -> str:
    """Return the address of the shards of a launch.

    Args:
        option: The option `--data`, which takes precedence.
        space_data: The `data` of the space. `synthetic:PATIENTS:PATCHES:SEED` generates patches
            once, next to the studies.
        studies: The folder of all studies.
        console: Where to print that patches are generated.

    Raises:
        SpaceError: If neither names data.
        DataError: If synthetic data has no valid parameters.
    """
    data = option or space_data
    if data is None:
        raise SpaceError(
            "no data: the space names none; give --data DIR, created by `raysearch shard`"
        )
    if not data.startswith(SYNTHETIC):
        return Folder(data).address
    return _synthetic_shards(data.removeprefix(SYNTHETIC), studies, console)


def _synthetic_shards(source: str, studies: str, console: Console) -> str:
    """Return the address of the synthetic shards of `source`; create them if they do not exist."""
    from raysearch.data.shards.shard_manifest import MANIFEST_FILE

    name = "synthetic-" + source.replace(":", "-")
    shards = Folder(studies) / SHARDS
    if shards.exists(f"{name}/{MANIFEST_FILE}"):
        return (shards / name).address
    from raysearch.cli.progress_bar import step_progress
    from raysearch.data.shards.sharding import write_shards
    from raysearch.data.step_progress import StepProgress
    from raysearch.data.synthetic import parse_synthetic
    from raysearch.metrics.row_units import PATCHES

    parse_synthetic(source)
    console.print(f"Generating the synthetic data set {source}", highlight=False)
    with step_progress("Sharding") as update:
        if shards.is_local:
            write_shards(source, shards.local / name, "synthetic", progress=update)
        else:
            with scratch_folder() as scratch:
                local = scratch / name
                write_shards(source, local, "synthetic", progress=update)
                update(StepProgress("Copying the shards", 0, 0, PATCHES))
                # The manifest is copied last, so that shards with a manifest are complete.
                for path in sorted(local.iterdir(), key=lambda path: path.name == MANIFEST_FILE):
                    shards.write(f"{name}/{path.name}", path.read_bytes())
    return (shards / name).address
