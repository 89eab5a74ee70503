"""Real hosts on one machine: network namespaces, each with sshd, a home and its own processes.

They need root, and Debian's openssh-server, iproute2 and rsync. Every host has an address on a
bridge of this machine; killing a host kills all its processes, after its cable was pulled.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

BRIDGE = "raysearch0"
NETWORK = "10.177.0"
GATEWAY = f"{NETWORK}.1"
PROGRAMS = {"ip": "iproute2", "rsync": "rsync", "ssh-keygen": "openssh-client"}
SSHD = Path("/usr/sbin/sshd")
SSHD_CONFIG = """
Port 22
ListenAddress {address}
HostKey {folder}/host_key
PidFile {folder}/sshd.pid
AuthorizedKeysFile {keys}
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
UsePAM no
MaxSessions 50
MaxStartups 50
"""
# Runs as the first process of the host; when it is killed, all the others go with it.
FIRST = """
set -e
hostname {name}
mkdir -p /tmp/ray /run/sshd
mount --bind {folder}/ray /tmp/ray
mount --bind {folder}/passwd /etc/passwd
mount --bind {folder}/hosts /etc/hosts
exec /usr/sbin/sshd -D -e -f {folder}/sshd_config
"""


def install() -> None:
    """Install what is missing; RuntimeError where that cannot be done."""
    if os.geteuid() != 0:
        raise RuntimeError("tests/cluster makes hosts of network namespaces, as root only")
    missing = [package for program, package in PROGRAMS.items() if not shutil.which(program)]
    if not SSHD.exists():
        missing.append("openssh-server")
    if missing:
        apt = ["apt-get", "install", "-y", "-qq", *missing]
        subprocess.run(["apt-get", "update", "-qq"], check=True, stdout=subprocess.DEVNULL)
        subprocess.run(apt, check=True, stdout=subprocess.DEVNULL)


@dataclass
class Host:
    """One host; `process` is outside it, `first` its first process as seen from here."""

    name: str
    address: str
    folder: Path
    cable: str
    process: subprocess.Popen[bytes]

    @property
    def home(self) -> Path:
        """The home of its root."""
        return self.folder / "home"

    def processes(self) -> list[int]:
        """The processes on it, as numbered here."""
        mine = Path(f"/proc/{self._first()}/ns/net").readlink() if self._first() else None
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and (entry / "ns/net").readlink() == mine:
                    found.append(int(entry.name))
            except OSError:
                continue
        return found

    def kill(self) -> None:
        """Lose the host: first its cable, so that nobody hears a word, then every process."""
        subprocess.run(["ip", "link", "set", self.cable, "down"], check=False)
        self.end()

    def end(self) -> None:
        """End every process on it."""
        first = self._first()
        if first:
            os.kill(first, signal.SIGKILL)
        self.process.wait(20)

    def _first(self) -> int | None:
        """The process that is number 1 there: the child of `unshare`."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        try:
            found = children.read_text().split()
        except OSError:
            return None
        return int(found[0]) if found else None


class Network:
    """Hosts on one bridge; `close` leaves nothing of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hosts: list[Host] = []
        self.key = folder / "key"
        # One network at a time: the kernel lets go of the lock, however its holder ends.
        self._lock = os.open("/run/raysearch-hosts.lock", os.O_CREAT | os.O_RDWR)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.close()
        keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key)]
        subprocess.run(keygen, check=True)
        _ip("link", "add", BRIDGE, "type", "bridge")
        _ip("addr", "add", f"{GATEWAY}/24", "dev", BRIDGE)
        _ip("link", "set", BRIDGE, "up")

    def add(self, name: str) -> Host:
        """A running host that takes ssh with `key`."""
        number = len(self.hosts) + 11
        address, cable = f"{NETWORK}.{number}", f"rs{number}"
        place = self.folder / name
        for one in ("home/.ssh", "ray"):
            (place / one).mkdir(parents=True, exist_ok=True)
        passwd = Path("/etc/passwd").read_text().splitlines()
        home = f"root:x:0:0:root:{place}/home:/bin/bash"
        lines = [home if line.startswith("root:") else line for line in passwd]
        (place / "passwd").write_text("\n".join(lines) + "\n")
        (place / "hosts").write_text(f"127.0.0.1 localhost\n{address} {name}\n")
        (place / "host_key").unlink(missing_ok=True)
        keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(place / "host_key")]
        subprocess.run(keygen, check=True)
        config = SSHD_CONFIG.format(address=address, folder=place, keys=f"{self.key}.pub")
        (place / "sshd_config").write_text(config)
        space = f"raysearch-{name}"
        _ip("netns", "add", space)
        _ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", space)
        _ip("link", "set", cable, "master", BRIDGE)
        _ip("link", "set", cable, "up")
        for words in (
            ("addr", "add", f"{address}/24", "dev", "eth0"),
            ("link", "set", "eth0", "up"),
            ("link", "set", "lo", "up"),
            ("route", "add", "default", "via", GATEWAY),
        ):
            _ip("-n", space, *words)
        host = Host(name, address, place, cable, _boot(name, place))
        self.hosts.append(host)
        _await_ssh(host, self.key)
        return host

    def revive(self, host: Host) -> None:
        """Bring back a host that was killed, with its disk as it was and nothing running."""
        if host.process.poll() is None:
            return
        shutil.rmtree(host.folder / "ray")
        (host.folder / "ray").mkdir()
        subprocess.run(["ip", "link", "set", host.cable, "up"], check=True)
        host.process = _boot(host.name, host.folder)
        _await_ssh(host, self.key)

    def close(self) -> None:
        """End every host, and take away its namespace and the bridge."""
        for line in _said("ip", "netns", "list").splitlines():
            name = line.split()[0]
            if name.startswith("raysearch-"):
                for pid in _said("ip", "netns", "pids", name).split():
                    with suppress(ProcessLookupError):
                        os.kill(int(pid), signal.SIGKILL)
                subprocess.run(["ip", "netns", "del", name], check=False)
        for host in self.hosts:
            host.process.wait(20)
        for line in _said("ip", "-brief", "link", "show", "master", BRIDGE).splitlines():
            subprocess.run(["ip", "link", "del", line.split("@")[0].split()[0]], check=False)
        subprocess.run(["ip", "link", "del", BRIDGE], check=False, stderr=subprocess.DEVNULL)


def _said(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout


def _boot(name: str, place: Path) -> subprocess.Popen[bytes]:
    """The first process of the host `name`, started."""
    with (place / "sshd.log").open("ab") as log:
        return subprocess.Popen(
            [
                *("ip", "netns", "exec", f"raysearch-{name}"),
                *("unshare", "--pid", "--mount", "--uts", "--fork", "--mount-proc"),
                *("bash", "-c", FIRST.format(name=name, folder=place)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
        )


def ssh_words(host: Host, key: Path, command: str) -> list[str]:
    """What runs `command` on `host`."""
    options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
    options += ["-o", "LogLevel=ERROR", "-o", "ConnectTimeout=5", "-i", str(key)]
    return ["ssh", *options, f"root@{host.address}", command]


def ssh(host: Host, key: Path, command: str) -> subprocess.CompletedProcess[str]:
    """Run `command` on `host`."""
    words = ssh_words(host, key, command)
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)


def _await_ssh(host: Host, key: Path) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        if ssh(host, key, "true").returncode == 0:
            return
        time.sleep(0.2)
    raise RuntimeError(f"{host.name}: no ssh: {(host.folder / 'sshd.log').read_text()}")


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)
