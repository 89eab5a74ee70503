"""Processes that have neither the clone nor raysearch, only MLflow and torch."""

from __future__ import annotations

import os
from pathlib import Path

# Python imports this module at its start. What a registered model does not need is absent.
SITE = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("raysearch", "torchvision", "timm", "ray", "optuna"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
"""


def bare_environment(folder: Path) -> dict[str, str]:
    """Return the environment of such a process; the module lies in the new folder `folder`."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(SITE)
    return {**os.environ, "PYTHONPATH": str(folder)}
