"""The checks of the doctor on the facts of nodes."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import re
import socket
from pathlib import Path

import pytest

from conftest import Commands
from raysearch.search.engine.cluster_checks import (
    Check,
    check_authentication,
    check_clocks,
    check_disk,
    check_gpus,
    check_nodes,
    check_storage,
    check_versions,
)
from raysearch.search.engine.node_facts import (
    PACKAGES,
    NodeFacts,
    StorageProbe,
    UnreachableNode,
    storage_error,
)

FACTS = NodeFacts(
    host="one",
    versions={"python": "3.11.9", **dict.fromkeys(PACKAGES, "1.0")},
    gpus=1,
    expected_gpus=1.0,
    free_gb=50.0,
    clock_offset_s=0.1,
    auth_mode="token",
    token_variable=False,
    token_mode=0o600,
    in_kuberay=False,
    dashboard_public=False,
    storage_error="",
    tracking_error="",
)


def two_nodes(**changes: object) -> list[NodeFacts]:
    """Two nodes, of which the second one has `changes`."""
    return [FACTS, dataclasses.replace(FACTS, host="two", **changes)]  # type: ignore[arg-type]


def failed_checks(checks: list[Check]) -> list[str]:
    assert all(check.advice for check in checks if not check.passed)
    assert all("two" in check.details for check in checks if not check.passed)
    return [check.name for check in checks if not check.passed]


def test_nodes_without_a_problem_pass() -> None:
    facts = two_nodes()
    assert failed_checks(check_versions(facts)) == []
    assert failed_checks([check_gpus(facts), check_clocks(facts), check_disk(facts)]) == []
    assert failed_checks(check_authentication(facts)) == []


def test_versions_that_differ_are_reported_by_name_and_host() -> None:
    facts = two_nodes(versions={**FACTS.versions, "torch": "2.0", "python": "3.12.1"})
    assert failed_checks(check_versions(facts)) == ["version of python", "version of torch"]


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"gpus": 0}, "GPUs"),
        ({"clock_offset_s": -60.0}, "clocks"),
        ({"clock_offset_s": 3600.0}, "clocks"),
        ({"free_gb": 1.0}, "disk"),
        ({"auth_mode": "not set"}, "token"),
        ({"token_mode": 0o644}, "token file"),
        ({"token_mode": None}, "token file"),
        ({"dashboard_public": True}, "dashboard"),
    ],
)
def test_each_problem_of_a_node_fails_its_check(change: dict[str, object], name: str) -> None:
    facts = two_nodes(**change)
    checks = [check_gpus(facts), check_clocks(facts), check_disk(facts)]
    assert failed_checks([*checks, *check_authentication(facts)]) == [name]


def test_a_pod_of_kuberay_has_its_token_in_a_variable_and_an_open_dashboard() -> None:
    pod: dict[str, object] = {
        "token_variable": True,
        "token_mode": None,
        "in_kuberay": True,
        "dashboard_public": True,
    }
    assert failed_checks(check_authentication(two_nodes(**pod))) == []
    assert "kubectl" in check_nodes(two_nodes(**pod), [], 3).advice
    # Elsewhere, a variable of `ray start` is in the command lines that other accounts can read.
    elsewhere = two_nodes(**{**pod, "in_kuberay": False, "dashboard_public": False})
    assert failed_checks(check_authentication(elsewhere)) == ["token file"]
    # Without the token, whoever reaches the dashboard runs any code.
    checks = check_authentication(two_nodes(**pod, auth_mode="not set"))
    assert failed_checks(checks) == ["token", "dashboard"]
    # A file of the token that others can read is one too many, also there.
    checks = check_authentication(two_nodes(**{**pod, "token_mode": 0o644}))
    assert failed_checks(checks) == ["token file"]


def test_too_few_nodes_fail_and_unreachable_ones_are_named() -> None:
    assert check_nodes([FACTS], [], None).passed
    assert not check_nodes([FACTS], [], 2).passed
    check = check_nodes([FACTS], [UnreachableNode("10.0.0.9", "gone")], None)
    assert not check.passed
    assert "10.0.0.9" in check.details


def test_storage_that_a_node_cannot_share_fails(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    probe = StorageProbe(str(tmp_path / "file" / "studies"))
    assert not check_storage(probe, [FACTS]).passed
    shared = StorageProbe(str(tmp_path / "studies"))
    assert storage_error(shared.studies, shared.name) == ""
    this_node = dataclasses.replace(FACTS, host=socket.gethostname())
    assert check_storage(shared, [this_node]).passed
    assert not check_storage(shared, two_nodes()).passed
    shared.remove()
    assert not list((tmp_path / "studies").iterdir())


@pytest.mark.slow
def test_the_doctor_checks_this_machine(run: Commands) -> None:
    report = json.loads(run("doctor", "--json").stdout)
    assert all(check["passed"] for check in report["checks"])
    packages = {package["name"]: package for package in report["packages"]}
    assert packages["torch"]["version"] == importlib.metadata.version("torch")
    assert packages["torch"]["is_direct"]
    assert packages["torch"]["is_permissive"]
    assert not packages["certifi"]["is_permissive"]
    output = run("doctor", "--nodes", "2", code=1).stdout
    (line,) = [line for line in output.splitlines() if "fail" in line]
    assert "nodes" in line
    assert re.search(r"pillow\s+│ \S+\s+│ MIT-CMU", output)
