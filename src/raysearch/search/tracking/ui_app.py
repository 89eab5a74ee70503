"""The applications that `mlflow server` runs for `raysearch ui`: entry points of `mlflow.app`."""

from __future__ import annotations

import os
from pathlib import Path

from starlette.types import ASGIApp

from raysearch.search.tracking.served_artifacts import serve_only
from raysearch.search.tracking.tracking_store import database_files
from raysearch.search.tracking.ui_access import UiAccess

# The names of the entry points, for one user and for a team.
USER_APP, TEAM_APP = "raysearch", "raysearch-team"
TOKEN_VARIABLE = "RAYSEARCH_UI_TOKEN"  # noqa: S105 the name of a variable
HOSTS_VARIABLE = "MLFLOW_SERVER_ALLOWED_HOSTS"
# Where MLflow stores artifacts without, and with a server.
FOLDERS = ("mlruns", "mlartifacts")


def create_app() -> ASGIApp:
    """Return MLflow's application for one user, who logs in with a token."""
    from mlflow.server.fastapi_app import app

    return _confined(app, os.environ[TOKEN_VARIABLE])


def create_team_app() -> ASGIApp:
    """Return MLflow's application for a team, whose members log in with a password."""
    from mlflow.server.auth import create_app as create_login_app

    return _confined(create_login_app(), None)


def bootstrap_login() -> None:
    """Create the database of a team's logins, and its user `admin`, if they do not exist yet.

    Several workers that create the database at the same time could disturb each other.
    """
    from mlflow.server.auth import bootstrap_admin_user

    bootstrap_admin_user()


def _confined(app: ASGIApp, token: str | None) -> ASGIApp:
    from mlflow.server.constants import (
        ARTIFACT_ROOT_ENV_VAR,
        ARTIFACTS_DESTINATION_ENV_VAR,
        BACKEND_STORE_URI_ENV_VAR,
    )

    variables = (ARTIFACT_ROOT_ENV_VAR, ARTIFACTS_DESTINATION_ENV_VAR)
    roots = [os.environ.get(variable, "") for variable in variables]
    remote = [root for root in roots if "://" in root and not root.startswith("file:")]
    serve_only(artifact_folders(os.environ[BACKEND_STORE_URI_ENV_VAR], roots), remote)
    return UiAccess(app, os.environ[HOSTS_VARIABLE].split(","), token)


def artifact_folders(store: str, roots: list[str]) -> list[Path]:
    """Return the folders of this machine with the artifacts of a store.

    Args:
        store: The store's address.
        roots: The roots of artifacts that `mlflow server` was started with; some are addresses.
    """
    local = [root.removeprefix("file://") for root in roots if _is_local(root)]
    folders = [Path.cwd(), *(file.parent for file in database_files(store))]
    return [*(folder / name for folder in folders for name in FOLDERS), *map(Path, local)]


def _is_local(root: str) -> bool:
    return bool(root) and (root.startswith("file:") or ":" not in root)
