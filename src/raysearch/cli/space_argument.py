"""The arguments that name a search space, and values that replace those of its file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from raysearch.errors import SpaceError


def split_arguments(
    space: Path | None, overrides: Sequence[str] | None
) -> tuple[Path | None, list[str]]:
    """Return the file of the space, and the overrides.

    Args:
        space: The first argument: without a file of the space, it is an override, such as
            `epochs=2`.
        overrides: The others.
    """
    key, separator, _value = str(space or "").partition("=")
    if space is not None and separator and "/" not in key and not space.is_file():
        return None, [str(space), *(overrides or ())]
    return space, [*(overrides or ())]


def check_space(
    space: Path | None, overrides: Sequence[str], *, data: str | None, resume: bool
) -> None:
    """Report the mistakes of the space before slow libraries are imported.

    Raises:
        SpaceError: If the file does not exist or has errors; if the default space has no data.
    """
    if space is None:
        named = next((text for text in overrides if text.partition("=")[0].strip() == "data"), None)
        if named is not None:
            raise SpaceError(f"{named}: without a space file, give the shards by --data DIR")
        if data is None and not resume:
            raise SpaceError(
                "no data: give --data DIR, created by `raysearch shard`, or --data"
                " synthetic:24:1200:0 for synthetic patches"
            )
        return
    if not space.is_file():
        raise SpaceError(f"{space}: no such file; pass a search space such as searchspace/*.yaml")
    # Each step imports more than the one before it: a mistake is reported before the next import.
    from raysearch.config.space_file import read_space

    read_space(space, overrides)
