"""The cluster files are valid for Ray, and open no port to the internet."""

import re
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

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
    resources = load(TOP / "clusters" / "aws.yaml")["Resources"]
    cluster = load(TOP / "cluster.yaml")
    types = cluster["available_node_types"].values()
    names = {node_type["node_config"]["IamInstanceProfile"]["Name"] for node_type in types}
    profiles = [
        resource
        for resource in resources.values()
        if resource["Type"] == "AWS::IAM::InstanceProfile"
    ]
    assert names == {profile["Properties"]["InstanceProfileName"] for profile in profiles}
    head_policies = resources["HeadRole"]["Properties"]["Policies"]
    policies = [policy["PolicyDocument"] for policy in head_policies]
    policies.append(resources["UseTheBucket"]["Properties"]["PolicyDocument"])
    for statement in (statement for policy in policies for statement in policy["Statement"]):
        assert not [action for action in statement["Action"] if action.endswith("*")]
        if statement["Resource"] == "*":
            assert (statement["Sid"] == "Describe") != ("Condition" in statement)
        tags = statement.get("Condition", {}).get("StringLike", {})
        for name, pattern in tags.items():
            assert name.endswith("/ray-cluster-name")
            assert fnmatch(cluster["cluster_name"], pattern)


def test_both_cluster_files_install_and_start_ray_in_the_same_way() -> None:
    first, second = (re.sub(r"RAYSEARCH_STUDIES=.*", "", path.read_text()) for path in FILES)
    lines = {line for line in first.splitlines() if "uv" in line or "export RAY_" in line}
    assert lines <= set(second.splitlines())
