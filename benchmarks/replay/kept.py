"""What was computed once and is kept on disk: references and the peers' runs."""

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
    """Where results are kept: ~/.cache/raysearch-replay, or replay/ in RAYSEARCH_CACHE."""
    place = os.environ.get("RAYSEARCH_CACHE")
    return Path(place) / "replay" if place else Path.home() / ".cache" / "raysearch-replay"


def fingerprint(libraries: Sequence[str], files: Sequence[Path], *others: str) -> str:
    """A hash of the libraries' versions and of the files' code: its comments do not count."""
    parts = [f"{name} {version(name)}" for name in libraries]
    parts += [ast.dump(ast.parse(file.read_text())) for file in files]
    return hashlib.sha256("\n".join([*parts, *others]).encode()).hexdigest()[:16]


def read(name: str) -> dict[str, Any] | None:
    """What `write` kept as `name`; None where there is nothing, or nothing whole."""
    try:
        found: dict[str, Any] = json.loads((folder() / name).read_text())
    except (OSError, ValueError):
        return None
    return found


def write(name: str, content: dict[str, Any]) -> None:
    """Keep `content` as `name`, written beside and then moved."""
    path = folder() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}")
    beside.write_text(json.dumps(content))
    beside.rename(path)
