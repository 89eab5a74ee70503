"""Searches paths with a regular expression, in a process that can be stopped.

Python's regular expressions can take forever. The process that searches imports this module, so it
imports nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Sequence


def search_paths(pattern: str, paths: Sequence[str]) -> list[str]:
    """The first group of `pattern` in each of `paths`, or the whole match if it has no group.

    Returns:
        The text for each path, without blanks at its ends; empty if `pattern` does not match.
    """
    compiled = re.compile(pattern)
    group = 1 if compiled.groups else 0
    matches = (compiled.search(path) for path in paths)
    return [((match[group] if match else None) or "").strip() for match in matches]
