"""Three real hosts with the project's own cluster file, and the servers that they need."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import s3fs
import yaml

from raysearch.search.journal.codec import load_event
from raysearch.search.journal.events import Event

from .hosts import GATEWAY, Host, Network, install, ssh, ssh_arguments

TOP = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
PASSWORD = "planted-Mlflow-Passw0rd"
WATCH = """
import sys, time, ray
ray.init(address="auto", log_to_driver=False, logging_level="ERROR")
def alive():
    return any(n["Alive"] and n["NodeManagerAddress"] == sys.argv[1] for n in ray.nodes())
print("watching", alive(), flush=True)
while alive():
    time.sleep(0.1)
print(time.time(), flush=True)
"""
# On a machine that other programs slow down, nodes and the first reports of a study take so long.
START_S = 420
NODES = "http://127.0.0.1:8265/nodes?view=summary"
TOKEN = "planted0ray0token0" + "0" * 46


@dataclass(frozen=True)
class Recovery:
    """What a failure cost: fold-epochs since the last checkpoint, and the time to recover."""

    failure: str
    lost_epochs: int
    lost_s: float
    recovery_s: float

    def __str__(self) -> str:
        return f"{self.failure}: {self.lost_epochs}, {self.lost_s:.1f}, {self.recovery_s:.1f}"


@dataclass
class ClusterTestbed:
    """The cluster, as a user at the laptop sees it."""

    network: Network
    file: Path
    laptop: Path
    environment: dict[str, str]
    recoveries: list[Recovery] = field(default_factory=list)
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def head(self) -> Host:
        return self.network.hosts[0]

    @property
    def workers(self) -> list[Host]:
        return self.network.hosts[1:]

    def bucket(self) -> Any:
        """The file system of the bucket, which caches nothing."""
        return s3fs.S3FileSystem(
            endpoint_url=self.environment["AWS_ENDPOINT_URL"],
            key=self.environment["AWS_ACCESS_KEY_ID"],
            secret=self.environment["AWS_SECRET_ACCESS_KEY"],
            skip_instance_cache=True,
            use_listings_cache=False,
        )

    def events(self, study: str) -> list[Event]:
        """The journal of `study`; empty while there is none."""
        fs, events = self.bucket(), list[Event]()
        for name in sorted(fs.glob(f"raysearch/studies/{study}/journal/*.jsonl")):
            lines = fs.cat_file(name).decode().splitlines()[1:]  # without the segment's head
            events += [load_event(line.partition(" ")[2]) for line in lines]
        return events

    def node_states(self) -> dict[str, str]:
        """The head's state of each address, ALIVE or DEAD; empty while it does not answer."""
        curl = f"curl -s -H 'Authorization: Bearer {TOKEN}'"
        answer = ssh(self.head, self.network.key, f"{curl} '{NODES}'").stdout
        if not answer:
            return {}
        nodes = [node["raylet"] for node in json.loads(answer)["data"]["summary"]]
        return {node["nodeManagerAddress"]: node["state"] for node in nodes if "state" in node}

    def watch(self, address: str) -> subprocess.Popen[str]:
        """A process that prints the time at which Ray considers the node at `address` dead."""
        command = f". ~/raysearch.env; python -c {shlex.quote(WATCH)} {address}"
        return subprocess.Popen(
            ssh_arguments(self.head, self.network.key, command), stdout=subprocess.PIPE, text=True
        )

    def await_nodes(self, count: int = 3) -> None:
        """Wait until `count` nodes are up: `ray up` itself waits for the head alone."""
        deadline = time.monotonic() + START_S
        while list(self.node_states().values()).count("ALIVE") < count:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{count} nodes expected, there are {self.node_states()}")
            time.sleep(1)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """A started command of this Python environment, in a session of its own."""
        process = subprocess.Popen(
            [str(BIN / words[0]), *words[1:]],
            cwd=self.laptop,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def end(self) -> None:
        """Kill what a failed test left running."""
        for process in self.started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()

    def run(self, *words: str, code: int = 0, timeout_s: float = 800) -> str:
        """The output of a command that must end with `code`."""
        process = self.start(*words)
        try:
            output, _ = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            raise AssertionError(
                f"{words} took longer than {timeout_s} s:\n{output[-4000:]}"
            ) from None
        assert process.returncode == code, f"{process.returncode}\n{output[-6000:]}"
        return output


@contextmanager
def open_testbed(**environment: str) -> Iterator[ClusterTestbed]:
    """Three hosts, a bucket and a tracking server, on which Ray does not run yet.

    Args:
        **environment: Environment variables of every node.
    """
    install()
    folder = Path(tempfile.mkdtemp(prefix="raysearch-hosts-"))
    network = Network(folder)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        stack.callback(network.close)
        for name in ("head", "worker1", "worker2"):
            network.add(name)
        laptop = folder / "laptop"
        (laptop / ".ray").mkdir(parents=True)
        token = laptop / ".ray" / "auth_token"
        token.write_text(TOKEN)
        token.chmod(0o600)
        s3 = stack.enter_context(moto_server(folder, GATEWAY, 5055))
        store = stack.enter_context(_tracking_server(folder, GATEWAY, 5056))
        access = {
            "AWS_ENDPOINT_URL": s3,
            "AWS_ACCESS_KEY_ID": "planted-access-key",
            "AWS_SECRET_ACCESS_KEY": "planted-secret-key",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        _make_bucket(access)
        for host in network.hosts:  # as the role of a machine would
            keys = host.home / ".aws" / "credentials"
            keys.parent.mkdir()
            keys.write_text(
                "[default]\n"
                f"aws_access_key_id = {access['AWS_ACCESS_KEY_ID']}\n"
                f"aws_secret_access_key = {access['AWS_SECRET_ACCESS_KEY']}\n"
            )
            keys.chmod(0o600)
        login = laptop / ".mlflow" / "credentials"
        login.parent.mkdir()
        login.write_text(
            f"[mlflow]\nmlflow_tracking_username = admin\nmlflow_tracking_password = {PASSWORD}\n"
        )
        login.chmod(0o600)
        file = laptop / "onprem.yaml"
        file.write_text(
            _cluster_file(
                network,
                store,
                {"AWS_ENDPOINT_URL": s3, "AWS_DEFAULT_REGION": "us-east-1", **environment},
            )
        )
        laptop_environment = {
            "PATH": f"{BIN}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(laptop),
            "TERM": "dumb",
            **access,
        }
        testbed = ClusterTestbed(network, file, laptop, laptop_environment)
        stack.callback(testbed.end)
        yield testbed


@contextmanager
def moto_server(folder: Path, address: str, port: int) -> Iterator[str]:
    """The address of a simulated AWS; its log is in `folder`."""
    words = ("moto_server", "-H", address, "-p", str(port))
    with _server(folder, "moto", *words):
        _await(f"http://{address}:{port}/moto-api/")
        yield f"http://{address}:{port}"


@contextmanager
def _tracking_server(folder: Path, address: str, port: int) -> Iterator[str]:
    words = ("raysearch", "ui", "--server", "--host", address, "--port", str(port))
    with _server(folder, "mlflow", *words, environment={"MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD}):
        _await(f"http://{address}:{port}/health")
        yield f"http://{address}:{port}"


def _cluster_file(network: Network, store: str, access: dict[str, str]) -> str:
    """The project's `onprem.yaml` with its CHANGE lines filled in.

    The packages of this Python environment replace those that the setup would install. A host has
    one core.
    """
    text = (TOP / "clusters" / "onprem.yaml").read_text()
    text = re.sub(r"RAYSEARCH_STUDIES=\S+", "RAYSEARCH_STUDIES=s3://raysearch/studies", text)
    keys = " ".join(f"{name}={value}" for name, value in access.items())
    text = re.sub(r"MLFLOW_TRACKING_URI=\S+", f"MLFLOW_TRACKING_URI={store} {keys}", text)
    text = text.replace("ray start --address", "ray start --num-cpus=1 --address")
    tree = yaml.safe_load(text)
    head, *workers = network.hosts
    tree["provider"] |= {
        "head_ip": head.address,
        "worker_ips": [worker.address for worker in workers],
    }
    tree["auth"] = {"ssh_user": "root", "ssh_private_key": str(network.key)}
    tree["cluster_name"] = f"raysearch-{network.folder.name}"
    for remote_path, path in tree["file_mounts"].items():
        tree["file_mounts"][remote_path] = path if path.startswith("~") else str(TOP / path)
    tree["setup_commands"] = [
        command
        for command in tree["setup_commands"]
        if "~/.uv" not in command and "uv pip" not in command
    ]
    tree["setup_commands"].insert(0, f"ln -sfn {BIN.parent} ~/venv")
    return yaml.safe_dump(tree)


@contextmanager
def _server(
    folder: Path, name: str, *words: str, environment: dict[str, str] | None = None
) -> Iterator[None]:
    server_folder = folder / name
    server_folder.mkdir()
    with (server_folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [str(BIN / words[0]), *words[1:]],
            cwd=server_folder,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _await(url: str) -> None:
    deadline = time.monotonic() + 90
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except OSError as error:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{url} does not answer: {error}") from None
            time.sleep(0.3)
        else:
            return


def _make_bucket(access: dict[str, str]) -> None:
    import boto3

    session = boto3.Session(
        access["AWS_ACCESS_KEY_ID"], access["AWS_SECRET_ACCESS_KEY"], region_name="us-east-1"
    )
    client = session.client("s3", endpoint_url=access["AWS_ENDPOINT_URL"])
    client.create_bucket(Bucket="raysearch")
