"""Where studies, their data and their tracking store are, as the commands agree on it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from rich.console import Console

from raysearch.cli.shard import file_progress
from raysearch.data.files import Folder
from raysearch.data.shards.shard_manifest import MANIFEST_FILE
from raysearch.data.shards.sharding import write_shards
from raysearch.data.synthetic import parse_synthetic
from raysearch.errors import SpaceError, StudyError
from raysearch.search.journal.study_folder import StudyFolder

SYNTHETIC = "synthetic:"
SHARDS = ".shards"


def study_names(studies: str) -> list[str]:
    """The names of the studies in `studies`, the newest last."""
    folder = Folder(studies)
    plans = {name: f"{name}/{StudyFolder.PLAN}" for name in folder.names()}
    made = {name: folder.modified(plan) for name, plan in plans.items() if folder.exists(plan)}
    return sorted(made, key=lambda name: made[name])


def new_name(studies: str, stem: str) -> str:
    """`stem`, or the first of `stem-2`, `stem-3` and so on that no study has."""
    taken = set(study_names(studies))
    number, name = 1, stem
    while name in taken:
        number += 1
        name = f"{stem}-{number}"
    return name


def newest_name(studies: str) -> str:
    """The name of the newest study; StudyError where there is none."""
    names = study_names(studies)
    if not names:
        raise StudyError(
            f"no study in {Folder(studies).address}; run `raysearch launch` here, or give --studies"
        )
    return names[-1]


def resolve_data(asked: str | None, named: str | None, studies: str, console: Console) -> str:
    """The address of the shards: `asked` for with --data, or `named` in the space.

    `synthetic:PATIENTS:PATCHES:SEED` is drawn once, beside the studies.
    """
    source = asked or named
    if source is None:
        raise SpaceError(
            "no data: the space names none; give --data DIR, made by `raysearch shard`"
        )
    if not source.startswith(SYNTHETIC):
        return Folder(source).address
    return _synthetic(source.removeprefix(SYNTHETIC), studies, console)


def _synthetic(source: str, studies: str, console: Console) -> str:
    """The address of the synthetic shards of `source`, made the first time."""
    parse_synthetic(source)
    name = "synthetic-" + source.replace(":", "-")
    shards = Folder(studies) / SHARDS
    if shards.exists(f"{name}/{MANIFEST_FILE}"):
        return (shards / name).address
    console.print(f"Drawing the synthetic set {source}", highlight=False)
    with file_progress("Sharding") as update:
        if shards.is_local:
            write_shards(source, shards.local / name, "synthetic", progress=update)
        else:
            with tempfile.TemporaryDirectory() as scratch:
                made = Path(scratch) / name
                write_shards(source, made, "synthetic", progress=update)
                for path in sorted(made.iterdir(), key=lambda one: one.name == MANIFEST_FILE):
                    shards.write(f"{name}/{path.name}", path.read_bytes())
    return (shards / name).address
