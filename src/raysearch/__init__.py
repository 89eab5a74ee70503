"""Distributed hyperparameter search for breast-histology patch classifiers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raysearch.api import ChampionSummary, Space, Study, launch, load

__version__ = "0.1.0"
__all__ = ["ChampionSummary", "Space", "Study", "launch", "load"]

# Threads of OpenMP, which torch uses, wait for each other in a loop before they sleep. By default
# that takes milliseconds, and on cores that other processes use, too, most of the time. OpenMP
# reads this when torch is imported.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def __getattr__(name: str) -> Any:
    """Import the Python API when it is used: commands start without it."""
    if name in __all__:
        from raysearch import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
