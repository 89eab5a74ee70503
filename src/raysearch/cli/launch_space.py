"""Reads the space of a launch: a file, or the default if the launch names none.

The default fine-tunes a small network if its ImageNet weights are on this machine, and searches a
small CNN from scratch otherwise. Nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from raysearch.config.default_spaces import FINE_TUNED, FINETUNE, INPUT_SIDES, SCRATCH
from raysearch.config.names import IMAGENET, NO_WEIGHTS
from raysearch.config.space import Space
from raysearch.config.space_file import read_space
from raysearch.data.files import Folder
from raysearch.errors import SpaceError, StudyError

if TYPE_CHECKING:
    from rich.console import Console

    from raysearch.search.study.stored_study import StudySnapshot

# The name of a study without a space file; a further one is `default-2`.
DEFAULT_STEM = "default"
# Characters of a hash in a message.
HASH_LENGTH = 12


def space_stem(space: Path | None) -> str:
    """Return the name of a new study of a space file, or of the default if there is none."""
    return DEFAULT_STEM if space is None else space.stem


def read_default_space(
    data: str, overrides: Sequence[str], stored: StudySnapshot | None, console: Console
) -> Space:
    """Return the default space for the shards at `data`, and print in one line which one it is.

    Args:
        data: The address of the shards.
        overrides: The values of the command line, which replace those of the space.
        stored: The study to resume, which has decided for one of the spaces; None for a new study.
        console: Where to print.

    Raises:
        DataError: If the shards have no valid manifest, or a file of weights does not have the hash
            in its name.
        SpaceError: If an override is invalid, or names a network whose ImageNet weights are not on
            this machine.
        StudyError: If the stored study was planned with weights that are not on this machine.
    """
    space = (
        _new_space(data, overrides) if stored is None else _planned_space(data, overrides, stored)
    )
    console.print(escape(_reason(space, stored)), soft_wrap=True, highlight=False)
    return space


def _new_space(data: str, overrides: Sequence[str]) -> Space:
    """Return the default of a new study: fine-tuning if there are weights, else from scratch.

    Raises:
        DataError: If a file of weights does not have the hash in its name.
    """
    network = _local_network()
    if network is None:
        return read_space(SCRATCH, overrides)
    space = _fine_tuning_space(data, network, overrides)
    named = str(space.values_of("architecture")[0])
    # Each network has settings of its own, also if an override names it.
    is_other = named != network and named in FINE_TUNED
    return _fine_tuning_space(data, named, overrides) if is_other else space


def _local_network() -> str | None:
    """Return the first network whose ImageNet weights are on this machine; None if there is none.

    Raises:
        DataError: If a file of weights does not have the hash in its name.
    """
    # torch takes seconds to import; a space file does not need it.
    from raysearch.models.weights.imagenet_files import local_imagenet_file

    return next((name for name in FINE_TUNED if local_imagenet_file(name)), None)


def _fine_tuning_space(data: str, network: str, overrides: Sequence[str]) -> Space:
    size = f"space.input_size={_input_side(data)}"
    return read_space(FINETUNE, [size, *FINE_TUNED[network], *overrides])


def _planned_space(data: str, overrides: Sequence[str], stored: StudySnapshot) -> Space:
    """Return the default that the study was planned with.

    If none is, because the overrides differ from those of the launch, the nearest one is returned;
    the comparison of the plans then names the difference.

    Raises:
        SpaceError: If an override is invalid.
    """
    planned, errors = stored.plan.space, []
    candidates: list[Space] = []
    for network in (*FINE_TUNED, None):
        try:
            candidates.append(
                read_space(SCRATCH, overrides)
                if network is None
                else _fine_tuning_space(data, network, overrides)
            )
        except SpaceError as error:  # an override that only another default has
            errors.append(error)
    if not candidates:
        raise errors[0]
    for space in candidates:
        if (space.hparams, space.epochs) == (planned.hparams, planned.epochs):
            return space
    return candidates[0] if _imagenet_networks(planned) else candidates[-1]


def _reason(space: Space, stored: StudySnapshot | None) -> str:
    """Return which space it is, and why, in one line.

    Raises:
        DataError: If a file does not have the hash in its name.
        SpaceError: If a new study needs weights that are not on this machine.
        StudyError: If the study `stored` needs such weights.
    """
    if _imagenet_networks(space):
        return _fine_tuning_reason(space, stored)
    architectures = map(str, space.values_of("architecture"))
    if any(set(space.weights_of(name)) - {NO_WEIGHTS} for name in architectures):
        return "Fine-tuning from the weights that the overrides name"
    if stored is not None:
        return f"From scratch: study {stored.plan.name!r} was planned so"
    if _local_network() is not None:
        return "From scratch: the overrides take ImageNet's weights away"
    preferred = next(iter(FINE_TUNED))
    return (
        f"From scratch: no ImageNet weights are at hand; `raysearch weights fetch {preferred}` gets"
        " them"
    )


def _input_side(data: str) -> int:
    """Return the side of the network's input: that of the patches, within `INPUT_SIDES`."""
    from raysearch.data.shards.shard_manifest import read_manifest

    smallest, largest = INPUT_SIDES
    return min(max(*read_manifest(Folder(data)).shape[:2], smallest), largest)


def _imagenet_networks(space: Space) -> list[str]:
    """Return the architectures of a space that start from ImageNet's weights."""
    architectures = map(str, space.values_of("architecture"))
    return [name for name in architectures if IMAGENET in space.weights_of(name)]


def _fine_tuning_reason(space: Space, stored: StudySnapshot | None) -> str:
    """Return what is fine-tuned from which files, in one line.

    Raises:
        DataError: If a file does not have the hash in its name.
        SpaceError: If a new study needs weights that are not on this machine.
        StudyError: If the study `stored` needs such weights.
    """
    from raysearch.models.weights.imagenet_files import local_imagenet_file

    files = {name: local_imagenet_file(name) for name in _imagenet_networks(space)}
    missing = [name for name, file in files.items() if file is None]
    sha256 = ""
    if missing and stored is not None:
        sha256 = stored.plan.weights_hash(missing[0], IMAGENET)[:HASH_LENGTH]
    if sha256 and stored is not None:
        raise StudyError(
            f"study {stored.plan.name!r} fine-tunes {missing[0]} from the ImageNet weights with"
            f" SHA-256 {sha256}, which are not on this machine; put their file into a folder of"
            f" RAYSEARCH_WEIGHTS, or get it by `raysearch weights fetch {missing[0]}`"
        )
    if missing:
        raise SpaceError(
            f"space.architecture: no ImageNet weights of {missing[0]} are on this machine;"
            f" `raysearch weights fetch {missing[0]}` gets them"
        )
    paths = ", ".join(map(str, files.values()))
    return f"Fine-tuning {', '.join(files)}: ImageNet weights found in {paths}"
