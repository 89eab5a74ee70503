"""The cluster files are such that Ray takes them, and open nothing to the world."""

import re
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

TOP = Path(__file__).parents[2]
FILES = [TOP / "cluster.yaml", TOP / "clusters" / "onprem.yaml"]


def tree_of(path: Path) -> dict[str, Any]:
    tree: dict[str, Any] = yaml.safe_load(path.read_text())
    return tree


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_cluster_file_fits_rays_own_schema(path: Path) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(tree_of(path))
    validate_config(config)
    assert config["head_node_type"] in config["available_node_types"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_node_installs_the_locked_versions_by_hash(path: Path) -> None:
    commands = " ".join(tree_of(path)["setup_commands"])
    assert "--require-hashes -r requirements.lock" in commands


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_ray_start_asks_for_the_token_and_hides_the_dashboard(path: Path) -> None:
    tree = tree_of(path)
    assert tree["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    environment = next(one for one in tree["setup_commands"] if "raysearch.env <<" in one)
    assert "export RAY_AUTH_MODE=token" in environment
    assert any("chmod 600 ~/.ray/auth_token" in one for one in tree["setup_commands"])
    starts = [
        one
        for part in ("head_start_ray_commands", "worker_start_ray_commands")
        for one in tree[part]
    ]
    assert all(one.startswith(". ~/raysearch.env") for one in starts)
    (head,) = [one for one in starts if "ray start --head" in one]
    assert "--dashboard-host=127.0.0.1" in head
    assert "0.0.0.0" not in path.read_text()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_what_a_user_changes_is_marked(path: Path) -> None:
    marked = [line for line in path.read_text().splitlines() if "CHANGE" in line]
    assert 5 <= len(marked) <= 12
    for word in ("cluster_name", "RAYSEARCH_STUDIES", "MLFLOW_TRACKING_URI"):
        assert any(word in line for line in marked)


def test_every_machine_on_aws_is_in_the_users_own_group() -> None:
    types = tree_of(TOP / "cluster.yaml")["available_node_types"]
    groups = [one["node_config"]["SecurityGroupIds"] for one in types.values()]
    assert groups[0] == groups[1]
    assert "security_group" not in tree_of(TOP / "cluster.yaml")["provider"]


def test_the_roles_on_aws_are_narrow_and_those_of_the_cluster_file() -> None:
    made = tree_of(TOP / "clusters" / "aws.yaml")["Resources"]
    cluster = tree_of(TOP / "cluster.yaml")
    types = cluster["available_node_types"].values()
    named = {one["node_config"]["IamInstanceProfile"]["Name"] for one in types}
    profiles = [one for one in made.values() if one["Type"] == "AWS::IAM::InstanceProfile"]
    assert named == {one["Properties"]["InstanceProfileName"] for one in profiles}
    policies = [one["PolicyDocument"] for one in made["HeadRole"]["Properties"]["Policies"]]
    policies.append(made["UseTheBucket"]["Properties"]["PolicyDocument"])
    for statement in (one for policy in policies for one in policy["Statement"]):
        assert not [action for action in statement["Action"] if action.endswith("*")]
        if statement["Resource"] == "*":
            assert (statement["Sid"] == "Look") != ("Condition" in statement)
        tags = statement.get("Condition", {}).get("StringLike", {})
        for name, pattern in tags.items():
            assert name.endswith("/ray-cluster-name")
            assert fnmatch(cluster["cluster_name"], pattern)


def test_the_two_files_install_and_start_alike() -> None:
    first, second = (re.sub(r"RAYSEARCH_STUDIES=.*", "", path.read_text()) for path in FILES)
    lines = {line for line in first.splitlines() if "uv" in line or "export RAY_" in line}
    assert lines <= set(second.splitlines())
