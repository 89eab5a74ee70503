"""Simulates hosts by network namespaces, each with sshd, a home and processes of its own.

They need root, and Debian's openssh-server, iproute2 and rsync. Every host has an address on a
bridge of this machine. To kill a host is to disconnect it and then to kill all its processes.
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
# Runs as the first process of the host; if it is killed, the kernel kills all others.
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
    """Install missing programs; RuntimeError without root."""
    if os.geteuid() != 0:
        raise RuntimeError(
            "tests/cluster simulates hosts by network namespaces, which requires root"
        )
    missing = [package for program, package in PROGRAMS.items() if not shutil.which(program)]
    if not SSHD.exists():
        missing.append("openssh-server")
    if missing:
        apt = ["apt-get", "install", "-y", "-qq", *missing]
        subprocess.run(["apt-get", "update", "-qq"], check=True, stdout=subprocess.DEVNULL)
        subprocess.run(apt, check=True, stdout=subprocess.DEVNULL)


@dataclass
class Host:
    """One host.

    Attributes:
        name: Its name.
        address: Its IP address.
        folder: The folder of its files on this machine.
        link: The network interface of this machine that it is connected to.
        process: The process of this machine that started it.
    """

    name: str
    address: str
    folder: Path
    link: str
    process: subprocess.Popen[bytes]

    @property
    def home(self) -> Path:
        """The home of its user root."""
        return self.folder / "home"

    def processes(self) -> list[int]:
        """The numbers of its processes on this machine."""
        first = self._first()
        namespace = Path(f"/proc/{first}/ns/net").readlink() if first else None
        processes = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and (entry / "ns/net").readlink() == namespace:
                    processes.append(int(entry.name))
            except OSError:
                continue
        return processes

    def kill(self) -> None:
        """Disconnect the host, so that it sends no last message, then kill every process."""
        subprocess.run(["ip", "link", "set", self.link, "down"], check=False)
        self.end()

    def end(self) -> None:
        """Kill every process on it."""
        first = self._first()
        if first:
            os.kill(first, signal.SIGKILL)
        self.process.wait(20)

    def _first(self) -> int | None:
        """The number of its first process on this machine: the child of `unshare`."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        try:
            numbers = children.read_text().split()
        except OSError:
            return None
        return int(numbers[0]) if numbers else None


class Network:
    """Hosts on one bridge; `close` removes them completely."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hosts: list[Host] = []
        self.key = folder / "key"
        # One network at a time: the kernel also releases the lock when its holder ends.
        self._lock = os.open("/run/raysearch-hosts.lock", os.O_CREAT | os.O_RDWR)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._remove()
        keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key)]
        subprocess.run(keygen, check=True)
        _ip("link", "add", BRIDGE, "type", "bridge")
        _ip("addr", "add", f"{GATEWAY}/24", "dev", BRIDGE)
        _ip("link", "set", BRIDGE, "up")

    def add(self, name: str) -> Host:
        """Start a host that accepts ssh with `key`."""
        number = len(self.hosts) + 11
        address, link = f"{NETWORK}.{number}", f"rs{number}"
        folder = self.folder / name
        for subfolder in ("home/.ssh", "ray"):
            (folder / subfolder).mkdir(parents=True, exist_ok=True)
        passwd = Path("/etc/passwd").read_text().splitlines()
        home = f"root:x:0:0:root:{folder}/home:/bin/bash"
        lines = [home if line.startswith("root:") else line for line in passwd]
        (folder / "passwd").write_text("\n".join(lines) + "\n")
        (folder / "hosts").write_text(f"127.0.0.1 localhost\n{address} {name}\n")
        (folder / "host_key").unlink(missing_ok=True)
        keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "host_key")]
        subprocess.run(keygen, check=True)
        config = SSHD_CONFIG.format(address=address, folder=folder, keys=f"{self.key}.pub")
        (folder / "sshd_config").write_text(config)
        space = f"raysearch-{name}"
        _ip("netns", "add", space)
        _ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", space)
        _ip("link", "set", link, "master", BRIDGE)
        _ip("link", "set", link, "up")
        for words in (
            ("addr", "add", f"{address}/24", "dev", "eth0"),
            ("link", "set", "eth0", "up"),
            ("link", "set", "lo", "up"),
            ("route", "add", "default", "via", GATEWAY),
        ):
            _ip("-n", space, *words)
        host = Host(name, address, folder, link, _boot(name, folder))
        self.hosts.append(host)
        _await_ssh(host, self.key)
        return host

    def revive(self, host: Host) -> None:
        """Restart a host that was killed, with its files and without its processes."""
        if host.process.poll() is None:
            return
        shutil.rmtree(host.folder / "ray")
        (host.folder / "ray").mkdir()
        subprocess.run(["ip", "link", "set", host.link, "up"], check=True)
        host.process = _boot(host.name, host.folder)
        _await_ssh(host, self.key)

    def close(self) -> None:
        """Remove the network; another one can be made, also by this process."""
        try:
            self._remove()
        finally:
            os.close(self._lock)

    def _remove(self) -> None:
        """Kill every host, and remove its namespace and the bridge."""
        for line in _output("ip", "netns", "list").splitlines():
            name = line.split()[0]
            if name.startswith("raysearch-"):
                for pid in _output("ip", "netns", "pids", name).split():
                    with suppress(ProcessLookupError):
                        os.kill(int(pid), signal.SIGKILL)
                subprocess.run(["ip", "netns", "del", name], check=False)
        for host in self.hosts:
            host.process.wait(20)
        for line in _output("ip", "-brief", "link", "show", "master", BRIDGE).splitlines():
            subprocess.run(["ip", "link", "del", line.split("@")[0].split()[0]], check=False)
        subprocess.run(["ip", "link", "del", BRIDGE], check=False, stderr=subprocess.DEVNULL)


def _output(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout


def _boot(name: str, folder: Path) -> subprocess.Popen[bytes]:
    """Start the first process of the host `name`."""
    with (folder / "sshd.log").open("ab") as log:
        return subprocess.Popen(
            [
                *("ip", "netns", "exec", f"raysearch-{name}"),
                *("unshare", "--pid", "--mount", "--uts", "--fork", "--mount-proc"),
                *("bash", "-c", FIRST.format(name=name, folder=folder)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
        )


def ssh_arguments(host: Host, key: Path, command: str) -> list[str]:
    """The arguments that run `command` on `host`."""
    options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
    options += ["-o", "LogLevel=ERROR", "-o", "ConnectTimeout=5", "-i", str(key)]
    return ["ssh", *options, f"root@{host.address}", command]


def ssh(host: Host, key: Path, command: str) -> subprocess.CompletedProcess[str]:
    """Run `command` on `host`."""
    arguments = ssh_arguments(host, key, command)
    return subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=120)


def _await_ssh(host: Host, key: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if ssh(host, key, "true").returncode == 0:
            return
        time.sleep(0.2)
    raise RuntimeError(f"{host.name}: no ssh: {(host.folder / 'sshd.log').read_text()}")


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)
