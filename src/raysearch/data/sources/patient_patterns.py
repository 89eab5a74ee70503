"""Finds the patient in the path of a file by the user's regular expression."""

from __future__ import annotations

import re
from collections.abc import Sequence
from unicodedata import normalize

from raysearch.data.isolated_subprocess import IsolatedProcessError, run_isolated
from raysearch.data.path_patterns import search_paths
from raysearch.errors import DataError

NO_PATIENT = "no patient in its path by --patient"
# A million paths take seconds; a pattern that backtracks exponentially never ends.
TIMEOUT_S, MEMORY_BYTES = 60.0, 4 * 2**30


def find_patients(pattern: str | None, files: Sequence[str]) -> list[str]:
    """Find the patient of each of `files`.

    Args:
        pattern: A regular expression; None if none is given.
        files: Paths below the source.

    Returns:
        For each file the first group of `pattern`, or its whole match if it has no group, in
        Unicode's composed form without blanks at its ends; empty if there is none.

    Raises:
        DataError: If `pattern` is no regular expression, or the search takes too long.
    """
    if pattern is None:
        return [""] * len(files)
    _check_pattern(pattern)
    paths = [normalize("NFC", file) for file in files]
    try:
        return run_isolated(
            search_paths,
            normalize("NFC", pattern),
            paths,
            timeout_s=TIMEOUT_S,
            memory_bytes=MEMORY_BYTES,
        )
    except IsolatedProcessError as error:
        raise DataError(
            f"--patient {pattern!r}: cannot be searched in {len(files):,} paths ({error}); simplify"
            " it: a repetition of a repetition such as (a+)+ takes too long"
        ) from None


def _check_pattern(pattern: str) -> None:
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise DataError(
            f"--patient {pattern!r} is no regular expression ({error}); give one such as"
            " '^[^/]+/(\\d+)'"
        ) from None
