"""The place where a study runs: this machine, a Ray that is running, or a remote cluster."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from raysearch.config.names import reject_login
from raysearch.errors import StudyError

# Ray on this machine alone; the Ray that runs on this machine, or that RAY_ADDRESS names.
LOCAL, AUTO = "local", "auto"
RAY_ADDRESS = "RAY_ADDRESS"
# `ray up` writes this file on the head node, and on no other machine.
HEAD_MARK = Path.home() / "ray_bootstrap_config.yaml"
WEB_SCHEMES = ("http://", "https://")
RAY_CLIENT = "ray://"
CLUSTER_FILES = (".yaml", ".yml")
ALLOWED = (
    "`local`, `auto`, a file that `ray up` started, or the address of a Ray dashboard such as"
    " http://head:8265"
)


@dataclass(frozen=True)
class RemoteCluster:
    """A cluster to which studies are sent as jobs.

    Args:
        place: A file that `ray up` started, or the http(s) address of a dashboard.
    """

    place: str

    @property
    def is_address(self) -> bool:
        """Whether it is an address, and not a file."""
        return self.place.startswith(WEB_SCHEMES)

    @property
    def option(self) -> str:
        """The option of the command line that names it."""
        return f"--on {shlex.quote(self.place)}"

    def __str__(self) -> str:
        return self.place


def remote_cluster(place: str | None) -> RemoteCluster | None:
    """Return the cluster of the option `--on`; None if the study runs in a process of this machine.

    Args:
        place: The value of the option; None for that of RAY_ADDRESS.

    Raises:
        StudyError: If it is no place where studies run.
    """
    if place in (LOCAL, AUTO):
        return None
    if place is None:
        address = os.environ.get(RAY_ADDRESS, "")
        return RemoteCluster(_checked(address)) if address.startswith(WEB_SCHEMES) else None
    if place.startswith(WEB_SCHEMES) or _is_cluster_file(place):
        return RemoteCluster(_checked(place))
    if "://" not in place and ":" in place:
        raise StudyError(
            f"--on {place}: not the address of a dashboard; give {ALLOWED}. To join a Ray by its"
            f" GCS address, such as 10.0.0.1:6379, set {RAY_ADDRESS}"
        )
    raise StudyError(f"--on {place}: not a place where studies run; give {ALLOWED}")


def _is_cluster_file(place: str) -> bool:
    return "://" not in place and (place.endswith(CLUSTER_FILES) or Path(place).is_file())


def _checked(place: str) -> str:
    reject_login(place)
    return place.rstrip("/") if place.startswith(WEB_SCHEMES) else place


def use_place(place: str | None) -> None:
    """Let this process, and those that it starts, run studies where the option `--on` says.

    Args:
        place: `local`, `auto`, or anything else, which changes nothing.
    """
    address = os.environ.get(RAY_ADDRESS, LOCAL)
    has_no_ray = address == LOCAL or address.startswith(WEB_SCHEMES)
    if place == LOCAL or (place == AUTO and has_no_ray):
        os.environ[RAY_ADDRESS] = place


def cluster_address() -> str | None:
    """Return the address of the Ray to join; None to start Ray on this machine alone.

    The address is RAY_ADDRESS, or `auto` if this machine is the head node of a cluster that
    `ray up` started. Any other Ray process on this machine belongs to somebody else.
    """
    address = os.environ.get(RAY_ADDRESS)
    if address == LOCAL:
        return None
    return address or (AUTO if HEAD_MARK.exists() else None)
