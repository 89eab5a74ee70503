"""Each error of a disk has the advice that fits it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from raysearch.data.atomic_directory import atomic_directory
from raysearch.errors import DataError


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.ENOSPC, "; free some space, or name another folder"),
        (errno.EROFS, "; make the disk writable, or name another folder"),
        (errno.EIO, "; check the disk, or name another folder"),
        (errno.EFBIG, "; raise the limit of the size of files (`ulimit -f`), or name another"),
        (errno.EACCES, "); name another folder"),
    ],
)
def test_the_advice_fits_the_error(tmp_path: Path, code: int, advice: str) -> None:
    with pytest.raises(DataError) as error, atomic_directory(tmp_path / "out"):
        raise OSError(code, os.strerror(code))
    assert advice in str(error.value)
