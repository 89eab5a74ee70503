"""The MLflow tracking store: its address, and whether it can be used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

import mlflow
from mlflow.entities import Experiment, Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError

from raysearch.data.file_access import (
    create_file,
    create_folder,
    restrict,
    restrict_tree,
    shared_group,
)
from raysearch.errors import StudyError, first_line
from raysearch.search.tracking.database_schema import check_schema

DEFAULT_STORE = "sqlite:///mlflow.db"
# SQLite's files beside a database.
SQLITE_SUFFIXES = ("", "-journal", "-wal", "-shm")
# MLflow stores the artifacts of a SQLite store in this folder of the working directory.
ARTIFACTS = Path("mlruns")
# The databases that MLflow supports.
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
# What MLflow and its client raise if a store is unreachable or rejects a request.
STORE_ERRORS = (MlflowException, SQLAlchemyError, OSError, ImportError)
# The error code of what does not exist.
MISSING = "RESOURCE_DOES_NOT_EXIST"
CHECK_TIMEOUT_S = 10
MAX_ERROR_CHARACTERS = 400


def default_store() -> str:
    """Return the tracking store: MLFLOW_TRACKING_URI, or `mlflow.db` in the working directory.

    If a server's address contains a login, the login is moved into MLflow's environment variables:
    MLflow would print the address with every run.
    """
    variables = mlflow.environment_variables
    store = str(variables.MLFLOW_TRACKING_URI.get() or DEFAULT_STORE)
    check_driver(store)
    parts = urlsplit(store)
    if parts.scheme not in ("http", "https") or parts.password is None:
        return store
    variables.MLFLOW_TRACKING_USERNAME.set(unquote(parts.username or ""))
    variables.MLFLOW_TRACKING_PASSWORD.set(unquote(parts.password))
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def restrict_local_store(store: str) -> None:
    """Close a SQLite store and MLflow's folder of artifacts, also existing ones, to other accounts.

    They are created if they do not exist. Other stores are not changed.

    Args:
        store: The tracking store.
    """
    for database in database_files(store):
        if not database.parent.is_dir():
            return  # MLflow reports it
        with suppress(FileExistsError):
            create_file(database).close()
        restrict_database(database)
        create_folder(ARTIFACTS)
        restrict(ARTIFACTS)


def restrict_database(database: Path) -> None:
    """Close a SQLite database, and the files that SQLite keeps beside it, to other accounts."""
    for suffix in SQLITE_SUFFIXES:
        restrict(database.with_name(database.name + suffix))


def database_files(store: str) -> list[Path]:
    """Return the file of an SQLite database; nothing for a store of another kind."""
    if not store.startswith("sqlite"):
        return []
    database = make_url(store).database
    return [Path(database).absolute()] if database and database != ":memory:" else []


def restrict_artifacts(store: str, experiment_id: str) -> None:
    """Share the artifacts of an experiment in a SQLite store with the group of `--shared`, if any.

    MLflow copies them with the permissions of temporary folders.
    """
    if database_files(store) and shared_group() is not None:
        restrict_tree(ARTIFACTS / experiment_id)


def check_driver(store: str) -> None:
    """Raise StudyError if the Python driver of a database is not installed."""
    if not store.startswith(DATABASES):
        return
    try:
        dialect = make_url(store).get_dialect()
        dialect.import_dbapi()
    except (SQLAlchemyError, ValueError) as error:
        raise StudyError(
            f"{store}: no address of a database ({first_line(error)}); write postgresql://, user,"
            " password, host and database as SQLAlchemy reads them"
        ) from None
    except ImportError as error:
        raise StudyError(f"{store}: {_missing_driver(store, error)}") from None


def _missing_driver(store: str, error: ImportError) -> str:
    advice = "install raysearch[postgres]" if store.startswith("postgresql") else "install it"
    return f"the driver of this database is not installed ({first_line(error)}); {advice}"


def connect(store: str) -> MlflowClient:
    """Return a client of the tracking store and its model registry.

    Raises:
        STORE_ERRORS: If the store is a database that does not accept a connection, or that another
            version of MLflow created. MLflow would try a connection ten times, for 100 seconds, and
            print each error.
    """
    if store.startswith(DATABASES):
        check_schema(store)
    return MlflowClient(tracking_uri=store, registry_uri=store)


def store_problem(store: str, reason: str) -> str:
    """Return the message of a tracking store that cannot be used, in one line."""
    return (
        f"the tracking store {store} cannot be used ({reason}); fix it, or set MLFLOW_TRACKING_URI"
        " to another store"
    )


def check_store(store: str) -> None:
    """Check that the database of a tracking store can be read, before anything starts.

    Servers, and databases that do not exist yet, are not checked.

    Raises:
        StudyError: If it cannot be read, or another version of MLflow created it.
    """
    if not store.startswith(DATABASES):
        return
    try:
        check_schema(store)
    except STORE_ERRORS as error:
        raise StudyError(store_problem(store, first_line(error, MAX_ERROR_CHARACTERS))) from None


@contextmanager
def global_store(store: str) -> Iterator[None]:
    """Let MLflow's functions without a client use `store`, and no longer afterwards."""
    variables = mlflow.environment_variables
    settings = (variables.MLFLOW_TRACKING_URI, variables.MLFLOW_REGISTRY_URI)
    previous = {variable: variable.get_raw() for variable in settings}
    mlflow.set_tracking_uri(store)
    mlflow.set_registry_uri(store)  # the same store, whatever MLFLOW_REGISTRY_URI names
    try:
        yield
    finally:
        mlflow.set_tracking_uri(None)
        mlflow.set_registry_uri(None)
        for variable, value in previous.items():
            variable.unset() if value is None else variable.set(value)


def lifecycle_stage(get: Callable[[str], Run | Experiment], identifier: str) -> str:
    """Return the lifecycle stage of a run or an experiment; empty if it does not exist."""
    try:
        entity = get(identifier)
    except MlflowException as error:
        if error.error_code != MISSING:
            raise
        return ""
    return str(entity.info.lifecycle_stage if isinstance(entity, Run) else entity.lifecycle_stage)


def store_error(store: str) -> str:
    """Return why the tracking store cannot be used, for example a wrong login; empty if it can."""
    variables = mlflow.environment_variables
    settings = {
        variables.MLFLOW_HTTP_REQUEST_MAX_RETRIES: 1,
        variables.MLFLOW_HTTP_REQUEST_TIMEOUT: CHECK_TIMEOUT_S,
    }
    previous = {variable: variable.get_raw() for variable in settings}
    for variable, value in settings.items():
        variable.set(value)
    try:
        connect(store).search_experiments(max_results=1)
    except ImportError as error:
        return _missing_driver(store, error)
    except (*STORE_ERRORS, ValueError) as error:
        return first_line(error, MAX_ERROR_CHARACTERS)
    finally:
        for variable, value in previous.items():
            variable.unset() if value is None else variable.set(value)
    return ""
