"""Limits MLflow's server to artifacts in its own folders.

MLflow serves a run's artifacts from the location that the run's experiment names, and follows
symbolic links. Whoever may create an experiment could read each file of the server's user.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from mlflow.entities import FileInfo
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import (
    _artifact_repository_registry,
    get_registered_artifact_repositories,
)
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

LOCAL_SCHEMES = ("", "file")
# MLflow resolves these to a location of another scheme, or to the server's own folder.
RESOLVED_SCHEMES = ("runs", "models", "mlflow-artifacts")

RepositoryFactory = Callable[..., ArtifactRepository]


def serve_only(folders: Iterable[Path], addresses: Iterable[str] = ()) -> None:
    """Let this process read and write artifacts only below these places.

    Args:
        folders: Folders of this machine.
        addresses: Addresses of object stores.
    """
    roots = tuple(folder.resolve() for folder in folders)
    prefixes = tuple(f"{address.rstrip('/')}/" for address in addresses)

    class ServedRepository(ConfinedRepository):
        _roots = roots

    for scheme, repository in list(get_registered_artifact_repositories().items()):
        if scheme in LOCAL_SCHEMES:
            _artifact_repository_registry.register(scheme, ServedRepository)
        elif scheme not in RESOLVED_SCHEMES:
            _artifact_repository_registry.register(scheme, _below(prefixes, repository))


def _below(prefixes: tuple[str, ...], repository: RepositoryFactory) -> RepositoryFactory:
    """Return a factory of repositories that rejects locations which have none of the prefixes."""

    def create(
        artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None
    ) -> ArtifactRepository:
        if not f"{artifact_uri}/".startswith(prefixes) or "/../" in f"{artifact_uri}/":
            raise _denied()
        return repository(artifact_uri, tracking_uri=tracking_uri, registry_uri=registry_uri)

    return create


def _denied() -> MlflowException:
    return MlflowException(
        "The artifact is outside the folders that this server serves: `mlruns` and `mlartifacts`"
        " in the working directory and beside the database, and MLFLOW_ARTIFACTS_DESTINATION.",
        error_code=PERMISSION_DENIED,
    )


class ConfinedRepository(LocalArtifactRepository):  # type: ignore[misc]
    """A local repository without access to what lies outside `_roots`, also through a link."""

    _roots: tuple[Path, ...] = ()

    def __init__(
        self, artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None
    ) -> None:
        super().__init__(artifact_uri, tracking_uri, registry_uri)
        self._require_inside(None)

    def _is_inside(self, artifact_path: str | None) -> bool:
        path = Path(self.artifact_dir, artifact_path or "").resolve()
        return any(path.is_relative_to(root) for root in self._roots)

    def _require_inside(self, artifact_path: str | None) -> None:
        if not self._is_inside(artifact_path):
            raise _denied()

    def get_local_path(self, artifact_path: str) -> str:
        """Return the path of an artifact."""
        self._require_inside(artifact_path)
        return str(super().get_local_path(artifact_path))

    def list_artifacts(self, path: str | None = None) -> list[FileInfo]:
        """Return what a folder contains, without links that lead outside."""
        self._require_inside(path)
        return [info for info in super().list_artifacts(path) if self._is_inside(info.path)]

    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        """Delete an artifact."""
        self._require_inside(artifact_path)
        super().delete_artifacts(artifact_path)

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        self._require_inside(remote_file_path)
        super()._download_file(remote_file_path, local_path)

    def _get_or_create_artifact_dir(self, artifact_path: str | None = None) -> str:
        # All methods that write call this one.
        self._require_inside(artifact_path)
        return str(super()._get_or_create_artifact_dir(artifact_path))
