"""Runs a program again with processes, temporary files and shared memory of its own.

Faults then reach no other program of the machine, and whatever a launch leaves is known to be its.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

TOP = Path(__file__).parents[2]
# The folder of the isolated program; set in its environment alone.
VARIABLE = "RAYSEARCH_ISOLATED"
# Not in /tmp, which the isolated program does not see.
BASE = "/var/tmp"
HIDDEN = Path("/tmp")
NAMESPACES = ("--mount", "--pid", "--fork", "--mount-proc", "--kill-child")


def isolated_folder() -> Path | None:
    """The empty folder of an isolated program; None in any other program."""
    folder = os.environ.get(VARIABLE)
    return Path(folder) if folder else None


def run_isolated(arguments: Sequence[str], *shown: Path) -> int:
    """Run this program again, isolated, and return its exit code.

    It sees none of the machine's other processes, `/tmp` and `/dev/shm` are empty, and all its
    processes end with it.

    Args:
        arguments: The program's file and its arguments.
        shown: Folders that it sees although they may be in `/tmp`.

    Raises:
        SystemExit: If the machine does not allow it.
    """
    if shutil.which("unshare") is None:
        raise SystemExit("unshare is not installed; install util-linux")
    namespaces = [*NAMESPACES, *([] if os.geteuid() == 0 else ["--map-root-user"])]
    if subprocess.run(["unshare", *namespaces, "true"], check=False).returncode:
        raise SystemExit("unshare: this account may create no namespaces; run it as root")
    with tempfile.TemporaryDirectory(dir=BASE, prefix="faults-") as name:
        folder = Path(name)
        script = _mount_script(folder, [TOP, Path(sys.prefix), *shown])
        command = [sys.executable, *arguments]
        # The shell is process 1, which has to wait for processes that have lost their parent.
        shell = f'set -e\n{script}\n"$@" &\nset +e\nwait $!'
        return subprocess.run(
            ["unshare", *namespaces, "bash", "-c", shell, "bash", *command],
            env={**os.environ, VARIABLE: str(folder / "work")},
            check=False,
        ).returncode


def _mount_script(folder: Path, shown: Sequence[Path]) -> str:
    """The shell commands that hide `/tmp` and `/dev/shm`, but not the folders `shown`."""
    lines = [f"mkdir -p {folder}/work {folder}/tmp"]
    hidden = [path for path in shown if path.resolve().is_relative_to(HIDDEN)]
    for number, path in enumerate(hidden):
        place = f"{folder}/shown-{number}"
        lines += [f"mkdir {place}", f"mount --bind {shlex.quote(str(path.resolve()))} {place}"]
    lines += [f"mount --bind {folder}/tmp {HIDDEN}", f"chmod 1777 {HIDDEN}"]
    for number, path in enumerate(hidden):
        quoted = shlex.quote(str(path.resolve()))
        lines += [f"mkdir -p {quoted}", f"mount --bind {folder}/shown-{number} {quoted}"]
    lines += ["mount -t tmpfs tmpfs /dev/shm", f"cd {folder}/work"]
    return "\n".join(lines)
