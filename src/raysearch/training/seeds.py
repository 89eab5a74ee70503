"""Derives seeds from names, so that a random stream does not depend on what was sampled before."""

from __future__ import annotations

import hashlib


def key(*parts: object) -> int:
    """Return the 63-bit seed of the random stream that `parts` name."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
