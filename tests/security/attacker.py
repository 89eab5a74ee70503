"""Another account of the machine: runs the attacks that it reads, one a line of JSON.

`python attacker.py UID GROUP...` starts as root, imports what the attacks need, and gives up all
privileges. Then it answers each line `[attack, argument...]` with a line of JSON.
"""

import contextlib
import fcntl
import http.client
import json
import os
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import ray  # noqa: F401 the account cannot read the folder of Python
from ray._raylet import (  # type: ignore[attr-defined]
    AuthenticationTokenLoader,
    Config,
    GcsClient,
)

# Locks that this account holds until it ends.
HELD: list[int] = []


def open_paths(root: str) -> list[str]:
    """Everything at and below `root` that this account can list, read, write or lock."""
    paths = []
    for path in [Path(root), *descendants(Path(root))]:
        with contextlib.suppress(FileNotFoundError):
            abilities = list(path_abilities(path))
            paths += [f"{path}: {', '.join(abilities)}"] if abilities else []
    return paths


def descendants(root: Path) -> list[Path]:
    paths: list[Path] = []
    for folder, folders, files in os.walk(root):
        folders.sort()
        paths += [Path(folder) / name for name in (*folders, *sorted(files))]
    return paths


def path_abilities(path: Path) -> Iterator[str]:
    mode = path.lstat().st_mode
    if stat.S_ISDIR(mode):
        with contextlib.suppress(OSError):
            list(path.iterdir())
            yield "list"
        with contextlib.suppress(OSError):
            planted = path / "planted"
            planted.symlink_to("/etc/passwd")
            planted.unlink()
            yield "plant"
    elif stat.S_ISREG(mode):
        for ability, flags in (("read", os.O_RDONLY), ("write", os.O_WRONLY)):
            with contextlib.suppress(OSError):
                os.close(os.open(path, flags))
                yield ability
    elif stat.S_ISSOCK(mode):
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            yield "connect"


def error_of(action: Callable[[], object]) -> str:
    """The name of the error that `action` raises; empty if it succeeds."""
    try:
        action()
    except Exception as error:
        return type(error).__name__
    return ""


def lock(path: str) -> str:
    """Lock a file until the end."""

    def hold() -> None:
        HELD.append(os.open(path, os.O_RDONLY))
        fcntl.flock(HELD[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)

    return error_of(hold)


def link(path: str, target: str) -> str:
    return error_of(lambda: Path(path).symlink_to(target))


def make_folder(path: str, mode: int) -> str:
    def make() -> None:
        Path(path).mkdir()
        Path(path).chmod(mode)

    return error_of(make)


def make_file(path: str, content: str) -> str:
    return error_of(lambda: Path(path).write_text(content))


def read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError as error:
        return type(error).__name__


def join_ray(address: str, token: str) -> str:
    """Ask the GCS for its nodes, as every client does first; the error's name, or the nodes."""
    os.environ.pop("RAY_AUTH_TOKEN", None)
    os.environ["RAY_AUTH_MODE"] = "token" if token else "disabled"
    if token:
        os.environ["RAY_AUTH_TOKEN"] = token
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()
    try:
        nodes = GcsClient(address=address).get_all_node_info(timeout=10)
    except Exception as error:
        return type(error).__name__
    return f"{len(nodes)} nodes"


def request(port: int, method: str, path: str) -> int:
    """The status of an HTTP request to `port` of this machine; 0 if there is none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path, body=b"")
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def processes_with(word: str) -> list[str]:
    """The files of other processes that this account can read and that contain `word`."""
    names = []
    for process in Path("/proc").iterdir():
        for name in ("cmdline", "environ", "maps", "status", "comm"):
            with contextlib.suppress(OSError):
                if process.name.isdigit() and word.encode() in (process / name).read_bytes():
                    names.append(f"{process.name}/{name}")
    return names


ATTACKS = (open_paths, lock, link, make_folder, make_file, read, join_ray, request, processes_with)


def main() -> None:
    account, *groups = map(int, sys.argv[1:])
    os.setgroups(groups)
    os.setgid(account)
    os.setuid(account)
    functions = {function.__name__: function for function in ATTACKS}
    answer("ready")
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        answer(functions[name](*arguments))


def answer(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
