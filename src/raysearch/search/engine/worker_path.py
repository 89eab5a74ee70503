"""The search path of modules in Ray's workers.

By default, Ray puts the working folder first, and a file such as `types.py` there would be imported
instead of the module that Ray or torch needs.
"""

from __future__ import annotations

import os
import site
import sys
import sysconfig
from pathlib import Path

from ray.job_config import JobConfig

from raysearch.config.process_environment import (
    path_with_working_folder_last,
    without_working_folder,
)


class WorkerJobConfig(JobConfig):  # type: ignore[misc]
    """A configuration of a job on this machine: its workers have the launcher's search path.

    The working folder is last.
    """

    def _search_path(self) -> list[str]:
        return path_with_working_folder_last(sys.path)

    def _serialize(self) -> bytes:
        # Ray has added the working folder by now. A worker inserts each entry before all others,
        # so the last entry here becomes the first one there.
        if not self._runtime_env_has_working_dir():
            self._py_driver_sys_path = self._search_path()[::-1]
        serialized: bytes = super()._serialize()
        return serialized


class ClusterJobConfig(WorkerJobConfig):
    """A configuration of a job on a cluster: its workers have the search path of their machine.

    Before it, they get what the launcher has beside its installed packages, such as a checkout and
    the entries of PYTHONPATH. The installed packages of two machines may differ, and the working
    folder cannot be added behind those of a worker.
    """

    def _search_path(self) -> list[str]:
        path = without_working_folder(os.pathsep.join(sys.path)).split(os.pathsep)
        installed = [*site.getsitepackages(), site.getusersitepackages()]
        installed += [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")]
        return [
            entry
            for entry in path
            if Path(entry).is_dir() and not any(map(Path(entry).is_relative_to, installed))
        ]
