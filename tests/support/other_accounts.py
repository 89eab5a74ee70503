"""A second account on this machine, a folder that it can enter, and the sockets of processes."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

ATTACKER = Path(__file__).parents[1] / "security" / "attacker.py"
ACCOUNT = 54321
LISTENING = "0A"


class OtherAccount:
    """A process of another account; calls run `tests/security/attacker.py` there."""

    def __init__(self, *groups: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(ATTACKER), str(ACCOUNT), *map(str, groups)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
            env={**os.environ, "HOME": "/nonexistent"},
        )
        assert self._answer() == "ready"

    def __call__(self, attack: str, *arguments: object) -> object:
        """The answer of an attack."""
        assert self._process.stdin
        texts = [argument if isinstance(argument, int) else str(argument) for argument in arguments]
        self._process.stdin.write(json.dumps([attack, *texts]) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> object:
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line, "the other account's process ended"
        return json.loads(line)

    def close(self) -> None:
        """End the process, and with it its locks."""
        self._process.kill()
        self._process.communicate()


@contextmanager
def other_account(*groups: int) -> Iterator[OtherAccount]:
    """A process of another account, which is also a member of `groups`."""
    account = OtherAccount(*groups)
    try:
        yield account
    finally:
        account.close()


@contextmanager
def umask(value: int) -> Iterator[None]:
    """Set the umask of this process meanwhile."""
    previous = os.umask(value)
    try:
        yield
    finally:
        os.umask(previous)


@dataclass(frozen=True)
class ListeningSocket:
    """A listening TCP socket and the name of its process."""

    process: str
    address: str
    port: int


def process_tree(root: int) -> list[int]:
    """The process `root` and all that descend from it."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit():
                parents[int(entry.name)] = int(
                    (entry / "stat").read_text().rpartition(")")[2].split()[1]
                )
    tree = [root]
    for process in tree:
        tree += [child for child, parent in parents.items() if parent == process]
    return tree


def listening_sockets(processes: list[int]) -> list[ListeningSocket]:
    """The listening TCP sockets of `processes`."""
    owners: dict[str, str] = {}
    for process in processes:
        with suppress(OSError):
            name = (Path("/proc") / str(process) / "comm").read_text().strip()
            for descriptor in (Path("/proc") / str(process) / "fd").iterdir():
                with suppress(OSError):
                    owners.setdefault(str(descriptor.readlink()), name)
    sockets = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            owner = owners.get(f"socket:[{fields[9]}]")
            if fields[3] == LISTENING and owner:
                address, _, port = fields[1].partition(":")
                sockets.append(ListeningSocket(owner, _address(address), int(port, 16)))
    return sorted(sockets, key=lambda listening: (listening.process, listening.port))


def _address(text: str) -> str:
    """An address of /proc/net/tcp, whose words of 32 bits are little-endian."""
    words = [bytes.fromhex(text[start : start + 8])[::-1] for start in range(0, len(text), 8)]
    packed = b"".join(words)
    if len(packed) == 4:
        return socket.inet_ntop(socket.AF_INET, packed)
    return socket.inet_ntop(socket.AF_INET6, packed).removeprefix("::ffff:")
