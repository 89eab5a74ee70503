"""The tracking store of a test."""

from __future__ import annotations

from pathlib import Path
from shutil import copyfile

import pytest
from mlflow.tracking import MlflowClient


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database of a tracking store without studies, which takes seconds to create."""
    database = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{database}").search_experiments()
    return database


@pytest.fixture
def store(tmp_path: Path, empty_store: Path) -> str:
    """A store in the folder of the test: MLflow keeps the first one of a relative address open."""
    copyfile(empty_store, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path}/mlflow.db"
