"""A real Slurm on three simulated hosts: one slurmctld, and a slurmd on each host."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from .hosts import GATEWAY, Network, install, ssh

PROGRAMS = {"slurmctld": "slurm-wlm", "munged": "munge"}
START_S = 60
CONFIGURATION = """
ClusterName=raysearch
SlurmctldHost={machine}({gateway})
AuthType=auth/munge
# Slurm starts a requeued job so many seconds later at the earliest.
AuthInfo=socket={folder}/munge.socket,cred_expire=5
SlurmUser=root
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
KillWait=30
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def install_slurm() -> None:
    """Install missing programs; RuntimeError without root."""
    install()
    missing = [package for program, package in PROGRAMS.items() if not shutil.which(program)]
    if missing:
        subprocess.run(["apt-get", "update", "-qq"], check=True, stdout=subprocess.DEVNULL)
        command = ["apt-get", "install", "-y", "-qq", *missing]
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)


class SlurmCluster:
    """A Slurm, as a user of its login node sees it.

    Args:
        folder: A folder that all nodes share.
        environment: The environment of the commands, which the jobs inherit.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder, self.environment = folder, dict(environment)

    def run(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command on the login node."""
        process = subprocess.run(
            words,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert not check or process.returncode == 0, process.stdout + process.stderr
        return process

    def state(self, job: str) -> str:
        """The state of a job, such as RUNNING."""
        text = self.run("scontrol", "show", "job", job).stdout
        return text.partition("JobState=")[2].split()[0]

    def wait(self, job: str, states: set[str], timeout_s: float) -> str:
        """Wait until a job has one of the states; return it."""
        deadline = time.monotonic() + timeout_s
        while (state := self.state(job)) not in states:
            assert time.monotonic() < deadline, f"job {job} is {state}\n{self.logs()}"
            time.sleep(0.5)
        return state

    def logs(self) -> str:
        """The ends of all logs, for the message of a failure."""
        paths = sorted(self.folder.glob("*.log"))
        return "\n".join(f"{path.name}: {path.read_text()[-2000:]}" for path in paths)


@contextmanager
def slurm_cluster() -> Iterator[SlurmCluster]:
    """Start a Slurm with the nodes node1, node2 and node3, of two cores each."""
    install_slurm()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rs-slurm-")))
        folder.chmod(0o755)
        network = Network(folder)
        stack.callback(network.close)
        hosts = [network.add(f"node{number}") for number in (1, 2, 3)]
        configuration = folder / "slurm.conf"
        lines = CONFIGURATION.format(machine=socket.gethostname(), gateway=GATEWAY, folder=folder)
        nodes = [f"NodeName={host.name} NodeAddr={host.address} CPUs=2" for host in hosts]
        configuration.write_text("\n".join([lines, *nodes, ""]))
        (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n")
        (folder / "state").mkdir()
        key = folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        environment = {**os.environ, "SLURM_CONF": str(configuration)}
        files = {"socket": "munge.socket", "log-file": "munged.log", "pid-file": "munged.pid"}
        files |= {"key-file": key.name, "seed-file": "munged.seed"}
        options = [f"--{name}={folder / file}" for name, file in files.items()]
        _start(stack, ["munged", "--foreground", "--force", *options], environment)
        _await((folder / "munge.socket").exists)
        _start(stack, ["slurmctld", "-D", "-f", str(configuration)], environment)
        for host in hosts:
            command = f"SLURM_CONF={configuration} setsid slurmd -D -N {host.name}"
            ssh(host, network.key, f"{command} > {folder}/{host.name}.log 2>&1 < /dev/null &")
        cluster = SlurmCluster(folder, environment)
        _await(lambda: cluster.run("sinfo", "-h", "-t", "idle", "-o", "%D").stdout.strip() == "3")
        yield cluster


def _start(stack: ExitStack, words: list[str], environment: Mapping[str, str]) -> None:
    process = subprocess.Popen(
        words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    stack.callback(process.wait)
    stack.callback(process.kill)


def _await(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_S
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"Slurm has not started within {START_S} s")
        time.sleep(0.2)
