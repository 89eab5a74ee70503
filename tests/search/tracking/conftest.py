"""The tracking store of a test."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.empty_tracking_store import add_tracking_store


@pytest.fixture
def store(tmp_path: Path) -> str:
    """A store in the folder of the test: MLflow keeps the first one of a relative address open."""
    add_tracking_store(tmp_path)
    return f"sqlite:///{tmp_path}/mlflow.db"
