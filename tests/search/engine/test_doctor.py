"""What the doctor says of what the nodes say."""

import dataclasses
import json
import socket
from pathlib import Path

import pytest

from conftest import Commands
from raysearch.search.engine import doctor
from raysearch.search.engine.doctor import Check, Facts
from raysearch.search.tracking.tracker import store_error

WELL = Facts(
    host="one",
    versions={"python": "3.11.9", **dict.fromkeys(doctor.PACKAGES, "1.0")},
    gpus=1,
    gpus_promised=1.0,
    free_gb=50.0,
    clock_ahead_s=0.1,
    auth_mode="token",
    token_mode=0o600,
    dashboard_public=False,
    storage="",
    tracking="",
)


def ill(**changes: object) -> list[Facts]:
    """Two nodes, of which the second has `changes`."""
    return [WELL, dataclasses.replace(WELL, host="two", **changes)]  # type: ignore[arg-type]


def failing(checks: list[Check]) -> list[str]:
    assert all(check.advice for check in checks if not check.good)
    assert all("two" in check.seen for check in checks if not check.good)
    return [check.name for check in checks if not check.good]


def test_nodes_that_are_well_pass() -> None:
    facts = ill()
    assert failing(doctor._versions(facts)) == []
    assert failing([doctor._gpus(facts), doctor._clocks(facts), doctor._disk(facts)]) == []
    assert failing(doctor._guarded(facts)) == []


def test_other_versions_are_told_by_name_and_host() -> None:
    facts = ill(versions={**WELL.versions, "torch": "2.0", "python": "3.12.1"})
    assert failing(doctor._versions(facts)) == ["version of python", "version of torch"]


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"gpus": 0}, "GPUs"),
        ({"clock_ahead_s": -60.0}, "clocks"),
        ({"clock_ahead_s": 3600.0}, "clocks"),
        ({"free_gb": 1.0}, "disk"),
        ({"auth_mode": "not set"}, "token"),
        ({"token_mode": 0o644}, "token file"),
        ({"token_mode": None}, "token file"),
        ({"dashboard_public": True}, "dashboard"),
    ],
)
def test_each_error_of_a_node_fails_its_check(change: dict[str, object], name: str) -> None:
    facts = ill(**change)
    checks = [doctor._gpus(facts), doctor._clocks(facts), doctor._disk(facts)]
    assert failing([*checks, *doctor._guarded(facts)]) == [name]


def test_too_few_machines_fail_and_silent_ones_are_named() -> None:
    assert doctor._reachable([WELL], [], None).good
    assert not doctor._reachable([WELL], [], 2).good
    silent = doctor._reachable([WELL], [("10.0.0.9", "gone")], None)
    assert not silent.good
    assert "10.0.0.9" in silent.seen


def test_a_port_that_listens_to_everybody_is_seen() -> None:
    kinds = {"127.0.0.1": socket.AF_INET, "0.0.0.0": socket.AF_INET, "::1": socket.AF_INET6}
    for address, kind in kinds.items():
        public = address == "0.0.0.0"
        with socket.socket(kind) as listener:
            listener.bind((address, 0))
            listener.listen()
            assert doctor._listens_publicly(listener.getsockname()[1]) is public


def test_storage_that_cannot_be_written_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    probe = doctor._Probe(str(tmp_path / "file" / "studies"))
    assert not doctor._storage(probe, [WELL]).good
    shared = doctor._Probe(str(tmp_path / "studies"))
    assert doctor._storage_error(shared.address, shared.name) == ""
    here = dataclasses.replace(WELL, host=socket.gethostname())
    assert doctor._storage(shared, [here]).good
    assert not doctor._storage(shared, ill()).good
    shared.remove()
    assert not list((tmp_path / "studies").iterdir())


@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_a_tracking_server_that_is_away_says_why(tmp_path: Path) -> None:
    assert "no server" in doctor._tracking_error("sqlite:///mlflow.db")
    assert "not set" in doctor._tracking_error("")
    assert "127.0.0.1:9" in doctor._tracking_error("http://127.0.0.1:9")
    assert store_error(f"sqlite:///{tmp_path}/mlflow.db") == ""


@pytest.mark.slow
def test_the_doctor_looks_at_this_machine_alone(run: Commands) -> None:
    checks = json.loads(run("doctor", "--json").stdout)
    assert all(check["good"] for check in checks)
    (few,) = [
        one
        for one in json.loads(run("doctor", "--json", "--nodes", "2", code=1).stdout)
        if not one["good"]
    ]
    assert few["name"] == "nodes"
