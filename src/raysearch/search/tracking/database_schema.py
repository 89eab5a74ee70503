"""Checks the schema of an MLflow database, which MLflow's versions change, before it is used."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from alembic.script import ScriptDirectory
from mlflow.exceptions import MlflowException
from mlflow.store.db.utils import _get_alembic_config
from sqlalchemy import Engine, NullPool, column, create_engine, inspect, make_url, select, table

from raysearch.errors import without_passwords

CONNECT_TIMEOUT_S = 10
# Another process may hold a lock for a moment.
LOCK_TIMEOUT_S = 5.0
# A schema that does not change for SETTLE_S is not being created by another process.
SETTLE_S, POLL_S = 2.0, 0.2
CREATION_TIMEOUT_S = 20.0
# The table in which MLflow's migrations store the revision of the schema.
REVISIONS = "alembic_version"
# A table of every MLflow: a database without it belongs to another program.
MLFLOW_TABLE = "experiments"


@dataclass(frozen=True)
class _Schema:
    """The names of the tables of a database, and the revision of its schema."""

    tables: frozenset[str]
    revision: str | None


def check_schema(store: str) -> None:
    """Check that a database has the schema of the installed MLflow, or none yet.

    Another process may be creating the database, and stores one revision after another. Therefore
    an unusable schema is read again until it no longer changes.

    Args:
        store: The SQLAlchemy address of the database.

    Raises:
        MlflowException: If its schema is older or newer, or another program created it.
        sqlalchemy.exc.SQLAlchemyError: If the database cannot be read.
    """
    url = make_url(store)
    if url.get_backend_name() == "sqlite" and not _has_content(url.database):
        return
    timeouts = {
        "postgresql": {"connect_timeout": CONNECT_TIMEOUT_S},
        "sqlite": {"timeout": LOCK_TIMEOUT_S},
    }
    arguments = timeouts.get(url.get_backend_name(), {})
    engine = create_engine(store, poolclass=NullPool, connect_args=arguments)
    schema = _read_schema(engine)
    start_s = changed_s = now_s = time.monotonic()
    while problem := _problem(store, schema):
        if now_s - changed_s > SETTLE_S or now_s - start_s > CREATION_TIMEOUT_S:
            raise MlflowException(problem)
        time.sleep(POLL_S)
        previous, schema = schema, _read_schema(engine)
        now_s = time.monotonic()
        if schema != previous:
            changed_s = now_s


def _read_schema(engine: Engine) -> _Schema:
    with engine.connect() as connection:
        tables = frozenset(inspect(connection).get_table_names())
        if REVISIONS not in tables:
            return _Schema(tables, None)
        revision = connection.execute(
            select(column("version_num")).select_from(table(REVISIONS))
        ).scalar()
        return _Schema(tables, revision)


def _problem(store: str, schema: _Schema) -> str:
    """Return why a schema cannot be used; empty if it can, or if the database is empty."""
    if not schema.tables:
        return ""
    if REVISIONS not in schema.tables:
        if MLFLOW_TABLE in schema.tables:
            return _older(store, "without a revision")
        return "it contains the tables of another program"
    revisions, newest = _revisions()
    if schema.revision == newest:
        return ""
    if schema.revision in revisions:
        return _older(store, f"revision {schema.revision}")
    return (
        f"a newer MLflow changed its schema (revision {schema.revision}): install that version of"
        " MLflow"
    )


def _older(store: str, revision: str) -> str:
    return (
        f"an older MLflow created its schema ({revision}): copy the database, then run"
        f" `mlflow db upgrade {without_passwords(store)}`"
    )


def _has_content(database: str | None) -> bool:
    """Return whether an SQLite database is a file with content; MLflow creates it otherwise."""
    path = Path(database) if database and database != ":memory:" else None
    return path is not None and path.is_file() and path.stat().st_size > 0


@cache
def _revisions() -> tuple[frozenset[str], str]:
    """Return all revisions of the schema that the installed MLflow knows, and the newest one."""
    scripts = ScriptDirectory.from_config(_get_alembic_config(""))
    revisions = frozenset(script.revision for script in scripts.walk_revisions())
    return revisions, str(scripts.get_current_head())
