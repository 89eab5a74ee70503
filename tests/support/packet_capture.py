"""Runs a command in namespaces of its own, and captures every packet that would leave the machine.

`python packet_capture.py COMMAND...` prints one line of JSON after the output of the command: its
exit code and the packets. The only route out is a TUN device whose other end is this process. The
name server of the namespaces is behind that route, and no file there knows the host name.
"""

from __future__ import annotations

import fcntl
import ipaddress
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

HOST_NAME = "capture-host"
NAMESERVER = "192.0.2.53"
# Nobody answers: a lookup ends after a second.
RESOLVER = f"nameserver {NAMESERVER}\noptions timeout:1 attempts:1\n"
DEVICE = "capture0"
IFF_TUN, IFF_NO_PI, TUNSETIFF = 0x0001, 0x1000, 0x400454CA
PROTOCOLS = {1: "ICMP", 6: "TCP", 17: "UDP"}
# The kernel itself sends ICMPv6 packets, some of them behind a hop-by-hop header.
KERNEL_PROTOCOLS_6 = (0, 58)
SETUP = f"""
set -e
ip link set lo up
ip address add 192.0.2.2/24 dev {DEVICE}
ip -6 address add 2001:db8::2/64 dev {DEVICE} nodad || true
ip link set {DEVICE} up
ip route add default via 192.0.2.1 dev {DEVICE}
ip -6 route add default dev {DEVICE} || true
"""


@dataclass(frozen=True)
class CapturedRun:
    """The end of a command, and one line for each packet that would have left the machine."""

    code: int
    packets: list[str]
    output: str


def run_captured(
    command: list[str], folder: Path, environment: dict[str, str], timeout_s: float
) -> CapturedRun:
    """Run `command` in `folder` and capture its packets."""
    process = subprocess.run(
        _in_namespaces([sys.executable, __file__, *command]),
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    output, _, record = process.stdout.rstrip("\n").rpartition("\n")
    assert process.returncode == 0, process.stdout[-1000:]
    captured = json.loads(record)
    return CapturedRun(captured["code"], captured["packets"], output)


def missing_namespaces() -> str:
    """Why this machine does not permit the namespaces or the device; empty if it does."""
    probe = f"ip tuntap add {DEVICE} mode tun && hostname {HOST_NAME}"
    process = subprocess.run(
        _in_namespaces(["sh", "-c", probe]), capture_output=True, text=True, check=False
    )
    return (process.stderr or str(process.returncode)) if process.returncode else ""


def _in_namespaces(command: list[str]) -> list[str]:
    namespaces = ["--net", "--mount", "--uts", "--pid", "--fork", "--mount-proc", "--kill-child"]
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    return ["unshare", *user, *namespaces, "--", *command]


def capture(command: list[str]) -> None:
    """Run `command` inside the namespaces; print its output and the captured packets."""
    device = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", DEVICE.encode(), IFF_TUN | IFF_NO_PI))
    socket.sethostname(HOST_NAME)
    with tempfile.TemporaryDirectory() as folder:
        _replace_file(Path("/etc/resolv.conf"), RESOLVER, Path(folder))
        _replace_file(Path("/etc/hosts"), "127.0.0.1 localhost\n::1 localhost\n", Path(folder))
        subprocess.run(["sh", "-c", SETUP], check=True)
    packets: list[str] = []
    threading.Thread(target=_read_packets, args=(device, packets), daemon=True).start()
    code = subprocess.run(command, check=False).returncode
    record = json.dumps({"code": code, "packets": packets})
    sys.stdout.write(f"\n{record}\n")
    sys.stdout.flush()


def _replace_file(path: Path, content: str, folder: Path) -> None:
    """Show `content` at `path` in this mount namespace."""
    source = folder / path.name
    source.write_text(content)
    subprocess.run(["mount", "--bind", str(source), str(path.resolve())], check=True)


def _read_packets(device: int, packets: list[str]) -> None:
    while True:
        description = describe(os.read(device, 65535))
        if description:
            packets.append(description)


def describe(packet: bytes) -> str:
    """Return protocol, destination, port and printable text of a packet; empty for the kernel's."""
    if packet[0] >> 4 == 6:
        protocol, start = packet[6], 40
        destination = str(ipaddress.ip_address(packet[24:40]))
        if protocol in KERNEL_PROTOCOLS_6:
            return ""
    else:
        protocol, start = packet[9], (packet[0] & 15) * 4
        destination = str(ipaddress.ip_address(packet[16:20]))
    (port,) = struct.unpack_from("!H", packet, start + 2)
    content = packet[start + 8 : start + 100]
    text = "".join(chr(byte) if 32 < byte < 127 else "." for byte in content)
    return f"{PROTOCOLS.get(protocol, protocol)} {destination} {port} {text}"


if __name__ == "__main__":
    capture(sys.argv[1:])
