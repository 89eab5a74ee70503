"""`ray up` and `ray down` with `cluster.yaml` against moto, which simulates AWS."""

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

from support.free_ports import free_port

from .testbed import BIN, TOP, moto_server

ADDRESS = "127.0.0.1"
REGION = "eu-central-1"
# Requests a worker from Ray's provider, as the autoscaler on the head does.
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
    """An AWS account with the stack of `clusters/aws.yaml`, and a laptop with its keys."""

    file: Path
    environment: dict[str, str]
    group: str
    images: tuple[str, str]
    ec2: Any
    iam: Any

    def start(self, *command: str) -> subprocess.Popen[str]:
        """A started command on the laptop."""
        return subprocess.Popen(
            command,
            cwd=TOP,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def instances(self) -> list[dict[str, Any]]:
        """All instances, terminated ones included."""
        reservations = self.ec2.describe_instances()["Reservations"]
        return [instance for entry in reservations for instance in entry["Instances"]]


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    with moto_server(tmp_path, ADDRESS, free_port()) as address:
        keys = {"AWS_ACCESS_KEY_ID": "planted", "AWS_SECRET_ACCESS_KEY": "planted"}
        session = boto3.Session("planted", "planted", region_name=REGION)
        ec2, stacks, parameters, roles = (
            session.client(service, endpoint_url=address)
            for service in ("ec2", "cloudformation", "ssm", "iam")
        )
        found = ec2.describe_images(Owners=["amazon"])["Images"]
        images = (found[0]["ImageId"], found[1]["ImageId"])
        template = (TOP / "clusters" / "aws.yaml").read_text()
        # moto has no public parameters with images.
        for name, image in zip(("/head", "/worker"), images, strict=True):
            parameters.put_parameter(Name=name, Value=image, Type="String")
            template = re.sub("Default: /aws/service/.*", f"Default: {name}", template, count=1)
        stacks.create_stack(
            StackName="raysearch",
            TemplateBody=template,
            Capabilities=["CAPABILITY_NAMED_IAM"],
            Parameters=[
                {"ParameterKey": "Bucket", "ParameterValue": "my-bucket"},
                {"ParameterKey": "Address", "ParameterValue": "192.0.2.1/32"},
            ],
        )
        (stack,) = stacks.describe_stacks(StackName="raysearch")["Stacks"]
        assert stack["StackStatus"] == "CREATE_COMPLETE"
        outputs = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
        group = outputs["Group"]
        assert (outputs["HeadImage"], outputs["WorkerImage"]) == images
        for name in (".ray/auth_token", ".mlflow/credentials"):
            (tmp_path / name).parent.mkdir()
            (tmp_path / name).write_text("planted")
        file = tmp_path / "cluster.yaml"
        text = re.sub(r"sg-0+", group, (TOP / "cluster.yaml").read_text())
        for number, image in enumerate(images, start=1):
            text = text.replace(f"ami-{number:017}", image)
        file.write_text(text)
        environment = {
            "PATH": f"{BIN}:/usr/bin:/bin",
            "HOME": str(tmp_path),
            "TMPDIR": str(tmp_path),
            "AWS_ENDPOINT_URL": address,
            **keys,
        }
        yield Cloud(file, environment, group, images, ec2, roles)


def test_the_security_group_admits_one_address_by_ssh_and_its_own_machines(cloud: Cloud) -> None:
    (group,) = cloud.ec2.describe_security_groups(GroupIds=[cloud.group])["SecurityGroups"]
    assert len(group["IpPermissions"]) == 2
    for rule in group["IpPermissions"]:
        if rule["IpProtocol"] == "-1":
            assert [pair["GroupId"] for pair in rule["UserIdGroupPairs"]] == [cloud.group]
            assert not rule["IpRanges"]
        else:
            assert (rule["FromPort"], rule["ToPort"]) == (22, 22)
            assert [ip_range["CidrIp"] for ip_range in rule["IpRanges"]] == ["192.0.2.1/32"]


def test_the_head_may_start_only_the_images_of_the_stack(cloud: Cloud) -> None:
    policy = cloud.iam.get_role_policy(RoleName="raysearch-head", PolicyName="StartAndEndWorkers")
    document = yaml.safe_load(str(policy["PolicyDocument"]))
    statements = {statement["Sid"]: statement for statement in document["Statement"]}
    resources = statements["StartThemFromThese"]["Resource"]
    images = [resource for resource in resources if ":image/" in resource]
    assert images == [f"arn:aws:ec2:{REGION}::image/{image}" for image in cloud.images]
    (group,) = [resource for resource in resources if ":security-group/" in resource]
    assert group.endswith(f":security-group/{cloud.group}")


def test_ray_up_starts_the_machines_of_the_file_and_ray_down_terminates_them(cloud: Cloud) -> None:
    up = cloud.start(str(BIN / "ray"), "up", "-y", "--no-config-cache", str(cloud.file))
    try:
        deadline = time.monotonic() + 90
        while not cloud.instances():
            assert up.poll() is None, up.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.5)
    finally:
        os.killpg(up.pid, signal.SIGKILL)  # no simulated machine answers by ssh
        up.communicate()
    worker = cloud.start(str(BIN / "python"), "-c", WORKER, str(cloud.file))
    output, _ = worker.communicate(timeout=90)
    assert worker.returncode == 0, output
    head, spot = cloud.instances()
    types = yaml.safe_load(cloud.file.read_text())["available_node_types"]
    for instance, node_type in ((head, types["head"]), (spot, types["worker"])):
        expected = node_type["node_config"]
        assert instance["InstanceType"] == expected["InstanceType"]
        assert instance["ImageId"] == expected["ImageId"]
        assert instance["ImageId"] in cloud.images
        (disk,) = cloud.ec2.describe_volumes(
            Filters=[{"Name": "attachment.instance-id", "Values": [instance["InstanceId"]]}]
        )["Volumes"]
        assert disk["Encrypted"]
        assert [group["GroupId"] for group in instance["SecurityGroups"]] == [cloud.group]
        assert instance["MetadataOptions"]["HttpTokens"] == "required"
        tags = {tag["Key"]: tag["Value"] for tag in instance["Tags"]}
        # The head's role may terminate only machines with this tag.
        assert tags["ray-cluster-name"] == "raysearch"
    assert spot.get("InstanceLifecycle") == "spot"
    assert head.get("InstanceLifecycle") != "spot"
    down = cloud.start(str(BIN / "ray"), "down", "-y", str(cloud.file))
    output, _ = down.communicate(timeout=90)
    assert down.returncode == 0, output
    assert {instance["State"]["Name"] for instance in cloud.instances()} == {"terminated"}
