"""The other files of a slide, which OpenSlide opens by itself.

A slide of MIRAX, or of Hamamatsu's older formats, names them in a text file; of DICOM, they lie in
one folder. They are checked before OpenSlide opens them: a name in a file must not lead out of its
folder, and opening a pipe would wait for ever.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from raysearch.data.files import Folder
from raysearch.data.images.decoding import RejectedImageError
from raysearch.errors import DataError, shortened

DICOM_SUFFIX, MIRAX_SUFFIX = ".dcm", ".mrxs"
HAMAMATSU_SUFFIXES = (".vms", ".vmu")
MIRAX_INDEX = "Slidedat.ini"
MAX_INDEX_BYTES = 8 * 2**20
# The keys whose values are names of files.
FILE_KEY = re.compile(r"(?:ImageFile.*|MacroImage|MapFile|OptimisationFile|FILE_\d+|INDEXFILE)")


def companion_files(path: Path) -> list[Path]:
    """Return the files that may belong to a slide beside the one that names it, sorted."""
    suffix = path.suffix.lower()
    if suffix == DICOM_SUFFIX:
        return sorted(entry for entry in path.parent.iterdir() if entry != path)
    if suffix == MIRAX_SUFFIX:
        folder = path.with_suffix("")
        return sorted(folder.iterdir()) if folder.is_dir() else []
    if suffix in HAMAMATSU_SUFFIXES:
        return sorted({path.parent / name for name in _named_files(path)})
    return []


def check_companion_files(path: Path) -> None:
    """Check the files that OpenSlide opens with a slide.

    Raises:
        RejectedImageError: If one is named outside of its folder, or is no regular file.
    """
    suffix = path.suffix.lower()
    if suffix == MIRAX_SUFFIX:
        folder = path.with_suffix("")
        if folder.is_symlink():
            raise RejectedImageError(f"{folder.name} is a link; put the folder of the slide there")
        index = folder / MIRAX_INDEX
        if index.exists():
            list(_named_files(index))
    for file in companion_files(path):
        try:
            mode = file.stat().st_mode
        except OSError:
            continue  # OpenSlide says whether it needs it
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise RejectedImageError(f"{shortened(file.name)!r} beside it is a pipe or a device")
        if suffix != DICOM_SUFFIX and file.resolve().parent != file.parent.resolve():
            raise RejectedImageError(f"{shortened(file.name)!r} is a link out of its folder")


def _named_files(index: Path) -> Iterator[str]:
    """Yield the names of files in a text file of a slide.

    Raises:
        RejectedImageError: If a name has a folder, or the file cannot be read.
    """
    try:
        content = Folder(index.parent).read(index.name, MAX_INDEX_BYTES)
    except (OSError, DataError) as error:
        raise RejectedImageError(f"{index.name}: {error}") from None
    for line in content.decode("latin-1").splitlines():
        key, equals, value = (part.strip() for part in line.partition("="))
        if not equals or not value or not FILE_KEY.fullmatch(key):
            continue
        if "\\" in value or os.path.basename(value) != value or value in (".", ".."):  # noqa: PTH119
            raise RejectedImageError(f"it names {shortened(value)!r}, which is not in its folder")
        yield value
