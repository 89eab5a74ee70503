"""The ssh connections that Ray opens to a cluster: their control sockets, and the host keys.

Ray keeps its control sockets at a predictable place in /tmp, and does not check host keys.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from getpass import getuser
from pathlib import Path

from ray.autoscaler._private.command_runner import HASH_MAX_LENGTH

from raysearch.data.scratch_folder import scratch_folder
from raysearch.errors import StudyError
from raysearch.search.engine.local_ray import restrict_token_file

# A file of host keys in the format of ssh's known_hosts; without it, they are not checked.
KNOWN_HOSTS = "RAYSEARCH_KNOWN_HOSTS"


def control_folder() -> Path:
    """Return the folder of this account's control sockets, as Ray names it."""
    account = hashlib.sha256(getuser().encode()).hexdigest()[:HASH_MAX_LENGTH]
    return Path("/tmp") / f"ray_ssh_{account}"  # noqa: S108 Ray has no option for it


def ray_program() -> str:
    """Return the path of the program `ray` of this Python environment."""
    return str(Path(sys.executable).with_name("ray"))


def run_ray(arguments: Sequence[str]) -> int:
    """Run `ray` with `arguments` over safe ssh connections; return its exit code.

    Raises:
        StudyError: If the connections are not safe; see `ssh_environment`.
    """
    restrict_token_file()
    command = [ray_program(), *arguments]
    with ssh_environment() as environment:
        return subprocess.run(command, env=environment, check=False).returncode  # noqa: S603 no shell


@contextmanager
def ssh_environment() -> Iterator[dict[str, str]]:
    """The environment for a command of Ray that opens ssh connections.

    The folder of the control sockets is created if it does not exist. If RAYSEARCH_KNOWN_HOSTS
    names a file, ssh connects only to hosts whose keys the file contains: a program `ssh` that
    comes first in PATH sets the options, and ssh ignores those that Ray passes after them.

    Raises:
        StudyError: If another account could use the control sockets, or there is no such file.
    """
    _reserve_control_folder()
    known_hosts = os.environ.get(KNOWN_HOSTS, "")
    if not known_hosts:
        yield dict(os.environ)
        return
    path = Path(known_hosts).expanduser().resolve()
    if not path.is_file():
        raise StudyError(
            f"--known-hosts {known_hosts}: no such file; write the hosts' keys into it, for example"
            " with `ssh-keyscan`, and compare them with those of the machines"
        )
    with scratch_folder() as folder:
        options = ["StrictHostKeyChecking=yes", f'UserKnownHostsFile="{path}"']
        command = [shutil.which("ssh") or "ssh", *(f"-o{option}" for option in options)]
        program = folder / "ssh"
        program.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n', encoding="utf-8")
        program.chmod(0o700)
        yield {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}


def _reserve_control_folder() -> None:
    """Create the folder of the control sockets; StudyError if it is not this account's alone.

    Whoever owns the folder can put a socket there, to which ssh would send the commands and files.
    """
    folder = control_folder()
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    is_own = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
    if not is_own:
        raise StudyError(
            f"{folder}: belongs to another account of this machine, which could read what Ray sends"
            " over ssh; let an administrator remove it"
        )
    if status.st_mode & 0o022:
        raise StudyError(
            f"{folder}: other accounts of this machine can write to it, and could read what Ray"
            f" sends over ssh; remove it: rm -r {folder}"
        )
    folder.chmod(0o700)
