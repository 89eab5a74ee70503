"""`cluster.yaml` as far as it goes without AWS: Ray's own `ray up` and `ray down` against moto."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml

from .ground import BIN, TOP, moto_server

ADDRESS, PORT = "127.0.0.1", 5057
REGION = "eu-central-1"
# Asks Ray's provider for a worker as the autoscaler on the head does.
WORKER = """
import sys, yaml
from ray.autoscaler._private.commands import _bootstrap_config, _get_node_provider
from ray.autoscaler._private.util import prepare_config
config = _bootstrap_config(prepare_config(yaml.safe_load(open(sys.argv[1]))), no_config_cache=True)
provider = _get_node_provider(config["provider"], config["cluster_name"])
worker = config["available_node_types"]["worker"]
tags = {"ray-node-type": "worker", "ray-user-node-type": "worker", "ray-launch-config": "x"}
provider.create_node(worker["node_config"], tags, 1)
"""


@dataclass
class Cloud:
    """An account with what `clusters/aws.yaml` makes, and a laptop that may use it."""

    file: Path
    environment: dict[str, str]
    group: str
    ec2: Any

    def start(self, *words: str) -> subprocess.Popen[str]:
        """A started command on the laptop."""
        return subprocess.Popen(
            words,
            cwd=TOP,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def instances(self) -> list[dict[str, Any]]:
        """What is there or was."""
        found = self.ec2.describe_instances()["Reservations"]
        return [one for reservation in found for one in reservation["Instances"]]


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    with moto_server(tmp_path, ADDRESS, PORT) as address:
        keys = {"AWS_ACCESS_KEY_ID": "planted", "AWS_SECRET_ACCESS_KEY": "planted"}
        session = boto3.Session("planted", "planted", region_name=REGION)
        ec2, stacks = (
            session.client(one, endpoint_url=address) for one in ("ec2", "cloudformation")
        )
        stacks.create_stack(
            StackName="raysearch",
            TemplateBody=(TOP / "clusters" / "aws.yaml").read_text(),
            Capabilities=["CAPABILITY_NAMED_IAM"],
            Parameters=[
                {"ParameterKey": "Bucket", "ParameterValue": "my-bucket"},
                {"ParameterKey": "Address", "ParameterValue": "192.0.2.1/32"},
            ],
        )
        (stack,) = stacks.describe_stacks(StackName="raysearch")["Stacks"]
        assert stack["StackStatus"] == "CREATE_COMPLETE"
        group = stack["Outputs"][0]["OutputValue"]
        for name in (".ray/auth_token", ".mlflow/credentials"):
            (tmp_path / name).parent.mkdir()
            (tmp_path / name).write_text("planted")
        file = tmp_path / "cluster.yaml"
        file.write_text(re.sub(r"sg-0+", group, (TOP / "cluster.yaml").read_text()))
        environment = {
            "PATH": f"{BIN}:/usr/bin:/bin",
            "HOME": str(tmp_path),
            "TMPDIR": str(tmp_path),
            "AWS_ENDPOINT_URL": address,
            **keys,
        }
        yield Cloud(file, environment, group, ec2)


def test_the_group_lets_in_one_address_by_ssh_and_its_own_machines(cloud: Cloud) -> None:
    (group,) = cloud.ec2.describe_security_groups(GroupIds=[cloud.group])["SecurityGroups"]
    assert len(group["IpPermissions"]) == 2
    for rule in group["IpPermissions"]:
        if rule["IpProtocol"] == "-1":
            assert [one["GroupId"] for one in rule["UserIdGroupPairs"]] == [cloud.group]
            assert not rule["IpRanges"]
        else:
            assert (rule["FromPort"], rule["ToPort"]) == (22, 22)
            assert [one["CidrIp"] for one in rule["IpRanges"]] == ["192.0.2.1/32"]


def test_ray_up_starts_what_the_file_says_and_ray_down_ends_it(cloud: Cloud) -> None:
    up = cloud.start(str(BIN / "ray"), "up", "-y", "--no-config-cache", str(cloud.file))
    try:
        until = time.monotonic() + 90
        while not cloud.instances():
            assert up.poll() is None, up.communicate()[0]
            assert time.monotonic() < until
            time.sleep(0.5)
    finally:
        os.killpg(up.pid, signal.SIGKILL)  # no machine answers by ssh: this is as far as it goes
        up.communicate()
    worker = cloud.start(str(BIN / "python"), "-c", WORKER, str(cloud.file))
    said, _ = worker.communicate(timeout=90)
    assert worker.returncode == 0, said
    head, spot = cloud.instances()
    types = yaml.safe_load(cloud.file.read_text())["available_node_types"]
    for found, kind in ((head, types["head"]), (spot, types["worker"])):
        wanted = kind["node_config"]
        assert found["InstanceType"] == wanted["InstanceType"]
        assert found["ImageId"] == wanted["ImageId"]
        assert [one["GroupId"] for one in found["SecurityGroups"]] == [cloud.group]
        assert found["MetadataOptions"]["HttpTokens"] == "required"
        tags = {one["Key"]: one["Value"] for one in found["Tags"]}
        # What the head's role may end is told by this tag.
        assert tags["ray-cluster-name"] == "raysearch"
    assert spot.get("InstanceLifecycle") == "spot"
    assert head.get("InstanceLifecycle") != "spot"
    down = cloud.start(str(BIN / "ray"), "down", "-y", str(cloud.file))
    said, _ = down.communicate(timeout=90)
    assert down.returncode == 0, said
    assert {one["State"]["Name"] for one in cloud.instances()} == {"terminated"}
