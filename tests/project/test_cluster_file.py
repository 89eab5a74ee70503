"""The cluster files are valid for Ray, and open no port to the internet."""

import re
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

from raysearch.config.telemetry import NO_TELEMETRY

TOP = Path(__file__).parents[2]
FILES = [TOP / "cluster.yaml", TOP / "clusters" / "onprem.yaml"]


def load(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(path.read_text())
    return content


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_cluster_file_fulfils_rays_own_schema(path: Path) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(load(path))
    validate_config(config)
    assert config["head_node_type"] in config["available_node_types"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_node_installs_the_locked_versions_by_hash(path: Path) -> None:
    commands = " ".join(load(path)["setup_commands"])
    assert "--require-hashes -r requirements.lock" in commands
    assert "pip install -q --require-hashes -r ~/raysearch/requirements-build.lock" in commands
    assert "--require-build-hashes --build-constraints requirements-build.lock ." in commands
    mounts = load(path)["file_mounts"]
    for lock in ("requirements.lock", "requirements-build.lock"):
        assert mounts[f"~/raysearch/{lock}"] == lock


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_ray_start_requires_the_token_and_hides_the_dashboard(path: Path) -> None:
    config = load(path)
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    setup = config["setup_commands"]
    environment = next(command for command in setup if "raysearch.env <<" in command)
    assert "export RAY_AUTH_MODE=token" in environment
    assert any("chmod 600 ~/.ray/auth_token" in command for command in setup)
    starts = [*config["head_start_ray_commands"], *config["worker_start_ray_commands"]]
    assert all(command.startswith(". ~/raysearch.env") for command in starts)
    (head,) = [command for command in starts if "ray start --head" in command]
    assert "--dashboard-host=127.0.0.1" in head
    assert "0.0.0.0" not in path.read_text()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_lines_that_a_user_must_change_are_marked(path: Path) -> None:
    marked = [line for line in path.read_text().splitlines() if "CHANGE" in line]
    assert 5 <= len(marked) <= 12
    for name in ("cluster_name", "RAYSEARCH_STUDIES", "MLFLOW_TRACKING_URI"):
        assert any(name in line for line in marked)


def test_every_machine_on_aws_is_in_the_users_own_security_group() -> None:
    types = load(TOP / "cluster.yaml")["available_node_types"]
    groups = [node_type["node_config"]["SecurityGroupIds"] for node_type in types.values()]
    assert groups[0] == groups[1]
    assert "security_group" not in load(TOP / "cluster.yaml")["provider"]


def test_the_roles_on_aws_are_minimal_and_match_the_cluster_file() -> None:
    resources = aws_resources()
    cluster = load(TOP / "cluster.yaml")
    types = cluster["available_node_types"].values()
    names = {node_type["node_config"]["IamInstanceProfile"]["Name"] for node_type in types}
    profiles = [
        resource
        for resource in resources.values()
        if resource["Type"] == "AWS::IAM::InstanceProfile"
    ]
    assert names == {profile["Properties"]["InstanceProfileName"] for profile in profiles}
    assert cluster["cluster_name"] == template_parameters()["Cluster"]["Default"]
    for statement in aws_statements().values():
        assert not [action for action in statement["Action"] if action.endswith("*")]
        if statement["Resource"] == "*":
            assert statement["Sid"] == "Describe"
            assert all(action.startswith("ec2:Describe") for action in statement["Action"])


def template_parameters() -> dict[str, Any]:
    parameters: dict[str, Any] = load(TOP / "clusters" / "aws.yaml")["Parameters"]
    return parameters


def aws_resources() -> dict[str, Any]:
    """The resources of `clusters/aws.yaml`, with the values of the parameters filled in."""
    text = (TOP / "clusters" / "aws.yaml").read_text()
    values: dict[str, str] = {
        name: value.get("Default", name) for name, value in template_parameters().items()
    }
    values |= {"AWS::Region": "REGION", "AWS::AccountId": "ACCOUNT", "Group.GroupId": "GROUP"}
    text = re.sub(r"\$\{([\w:.]+)\}", lambda match: values[match[1]], text)
    text = re.sub(r'\{"Fn::Sub": ("[^"]*")\}', r"\1", text)
    text = re.sub(r"\{Ref: (\w+)\}", lambda match: values.get(match[1], match[1]), text)
    resources: dict[str, Any] = yaml.safe_load(text)["Resources"]
    return resources


def aws_statements() -> dict[str, Any]:
    """The statements of all policies of `clusters/aws.yaml` by their ids."""
    resources = aws_resources()
    head_policies = resources["HeadRole"]["Properties"]["Policies"]
    policies = [policy["PolicyDocument"] for policy in head_policies]
    policies.append(resources["UseTheBucket"]["Properties"]["PolicyDocument"])
    return {statement["Sid"]: statement for policy in policies for statement in policy["Statement"]}


def test_the_machines_on_aws_read_only_the_public_image_parameters() -> None:
    (statement,) = [
        statement
        for statement in aws_statements().values()
        if any(action.startswith("ssm:") for action in statement["Action"])
    ]
    assert statement["Action"] == ["ssm:GetParameters"]
    # The account is empty in the name of a public parameter.
    public = "arn:aws:ssm:REGION::parameter/aws/service/"
    assert all(resource.startswith(public) for resource in statement["Resource"])
    images = [template_parameters()[name]["Default"] for name in ("HeadImage", "WorkerImage")]
    for image in images:
        name = f"arn:aws:ssm:REGION::parameter{image}"
        assert any(fnmatch(name, resource) for resource in statement["Resource"])


def test_the_head_on_aws_starts_tags_and_ends_only_machines_of_its_cluster() -> None:
    statements = aws_statements()
    start = statements["StartMachinesOfThisCluster"]["Condition"]["StringEquals"]
    assert start["aws:RequestTag/ray-cluster-name"] == "raysearch"
    assert start["ec2:MetadataHttpTokens"] == "required"
    for name in ("TagMachinesOfThisCluster", "EndMachinesOfThisCluster"):
        condition = statements[name]["Condition"]["StringEquals"]
        assert condition["ec2:ResourceTag/ray-cluster-name"] == "raysearch"
    for statement in statements.values():
        changes = [action for action in statement["Action"] if re.match("ec2:(?!Describe)", action)]
        resources = statement["Resource"]
        for resource in [resources] if isinstance(resources, str) else resources:
            if changes:
                assert resource.startswith("arn:aws:ec2:REGION:")
            if changes and ":instance/" in resource:
                assert "ray-cluster-name" in str(statement["Condition"]) or (
                    statement["Sid"] == "TagThemAtTheirStart"
                )


def test_the_machines_on_aws_use_only_one_folder_of_the_bucket() -> None:
    statements = aws_statements()
    used = [
        statement
        for statement in statements.values()
        if any(action.startswith("s3:") for action in statement["Action"])
    ]
    assert len(used) == 2
    prefixes = statements["ListOnePrefix"]["Condition"]["StringLike"]["s3:prefix"]
    assert prefixes == ["raysearch", "raysearch/*"]
    assert statements["UseOnePrefix"]["Resource"] == "arn:aws:s3:::Bucket/raysearch/*"
    environment = (TOP / "cluster.yaml").read_text()
    assert "RAYSEARCH_STUDIES=s3://my-bucket/raysearch/" in environment


def test_disks_on_aws_are_encrypted_images_are_pinned_and_metadata_requires_a_token() -> None:
    types = load(TOP / "cluster.yaml")["available_node_types"]
    for node_type in types.values():
        config = node_type["node_config"]
        assert all(device["Ebs"]["Encrypted"] for device in config["BlockDeviceMappings"])
        assert re.fullmatch("ami-[0-9a-f]{17}", config["ImageId"])
        assert config["MetadataOptions"] == {"HttpTokens": "required"}
    assert aws_statements()["WithEncryptedDisks"]["Condition"] == {
        "Bool": {"ec2:Encrypted": "true"}
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_library_of_a_node_sends_telemetry(path: Path) -> None:
    environment = next(
        command for command in load(path)["setup_commands"] if "raysearch.env <<" in command
    )
    exports = " ".join(line for line in environment.splitlines() if "export " in line)
    for name, value in NO_TELEMETRY.items():
        assert f"{name}={value}" in exports.split()


def test_both_cluster_files_install_and_start_ray_in_the_same_way() -> None:
    first, second = (re.sub(r"RAYSEARCH_STUDIES=.*", "", path.read_text()) for path in FILES)
    lines = {line for line in first.splitlines() if "uv" in line or "export RAY_" in line}
    assert lines <= set(second.splitlines())
