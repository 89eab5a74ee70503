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
from raysearch.config.names import IMAGENET
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
    network = _fine_tuned_network(stored)
    if network is not None:
        sizes = [f"space.input_size={_input_side(data)}"]
        space = read_space(FINETUNE, [*sizes, *FINE_TUNED[network], *overrides])
        reason = _fine_tuning_reason(space, stored)
    else:
        space = read_space(SCRATCH, overrides)
        reason = _scratch_reason(stored)
    console.print(escape(reason), soft_wrap=True, highlight=False)
    return space


def _fine_tuned_network(stored: StudySnapshot | None) -> str | None:
    """Return the network that the default fine-tunes: that of the stored study, else by the files.

    None for a search from scratch.

    Raises:
        DataError: If a file of weights does not have the hash in its name.
    """
    if stored is None:
        # torch takes seconds to import; a space file does not need it.
        from raysearch.models.weights.imagenet_files import local_imagenet_file

        return next((name for name in FINE_TUNED if local_imagenet_file(name)), None)
    planned = _imagenet_networks(stored.plan.space)
    if not planned:
        return None
    # An override may have named another network, and names it again.
    return planned[0] if planned[0] in FINE_TUNED else next(iter(FINE_TUNED))


def _scratch_reason(stored: StudySnapshot | None) -> str:
    """Return why nothing is fine-tuned, in one line."""
    if stored is not None:
        return f"From scratch: study {stored.plan.name!r} was planned so"
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
    if missing and stored is not None:
        sha256 = stored.plan.weights_hash(missing[0], IMAGENET)[:HASH_LENGTH]
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
    if not files:
        return "From scratch: the overrides take ImageNet's weights away"
    paths = ", ".join(map(str, files.values()))
    return f"Fine-tuning {', '.join(files)}: ImageNet weights found in {paths}"
