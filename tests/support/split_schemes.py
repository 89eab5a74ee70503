"""Spaces over split schemes other than k folds."""

from __future__ import annotations

from typing import Any


def scheme_tree(**settings: Any) -> dict[str, Any]:
    """Return a minimal space with `settings`."""
    return {"epochs": 1, "trials": 2, "space": {"learning_rate": 0.001}, **settings}
