"""Seeds by what they are for, so that nothing hangs on what was drawn before."""

from __future__ import annotations

import hashlib


def key(*parts: object) -> int:
    """A seed of 63 bits for what `parts` name."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
