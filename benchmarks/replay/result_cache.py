"""Caches on disk what is computed once: references and the peers' runs."""

from __future__ import annotations

import ast
import hashlib
import json
import os
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any


def folder() -> Path:
    """The cache: ~/.cache/raysearch-replay, or replay/ in RAYSEARCH_CACHE."""
    cache = os.environ.get("RAYSEARCH_CACHE")
    return Path(cache) / "replay" if cache else Path.home() / ".cache" / "raysearch-replay"


def fingerprint(libraries: Sequence[str], files: Sequence[Path], *texts: str) -> str:
    """A hash of the libraries' versions, of the files' code without comments, and of `texts`."""
    parts = [f"{name} {version(name)}" for name in libraries]
    parts += [ast.dump(ast.parse(file.read_text())) for file in files]
    return hashlib.sha256("\n".join([*parts, *texts]).encode()).hexdigest()[:16]


def read(name: str) -> dict[str, Any] | None:
    """Read what `write` stored as `name`; None if it is missing or damaged."""
    try:
        content: dict[str, Any] = json.loads((folder() / name).read_text())
    except (OSError, ValueError):
        return None
    return content


def write(name: str, content: dict[str, Any]) -> None:
    """Store `content` as `name`, at once."""
    path = folder() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(content))
    partial.rename(path)
