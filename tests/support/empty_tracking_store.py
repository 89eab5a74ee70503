"""An MLflow database without runs, for launches in a folder that had others."""

import atexit
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path


def add_tracking_store(folder: Path, name: str = "mlflow.db") -> None:
    """Let `folder` have the database that its first launch makes, which takes MLflow seconds.

    Only the artifacts of MLflow's default experiment, which no study uses, lie elsewhere.
    """
    if not (folder / name).exists():
        shutil.copy(_empty_tracking_store(), folder / name)


@cache
def _empty_tracking_store() -> Path:
    path = Path(tempfile.mkdtemp(prefix="raysearch-test-store-")) / "mlflow.db"
    atexit.register(shutil.rmtree, path.parent)
    script = f"import mlflow; mlflow.MlflowClient('sqlite:///{path}').search_experiments()"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=path.parent, capture_output=True)
    return path
