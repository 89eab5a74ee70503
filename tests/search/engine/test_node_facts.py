"""What a process measures of its own node."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from raysearch.search.engine.node_facts import (
    StorageProbe,
    listens_publicly,
    measure_node,
    tracking_error,
)
from raysearch.search.tracking.tracking_store import store_error


def test_a_port_that_listens_at_all_addresses_is_public() -> None:
    families = {"127.0.0.1": socket.AF_INET, "0.0.0.0": socket.AF_INET, "::1": socket.AF_INET6}
    for address, family in families.items():
        with socket.socket(family) as listener:
            listener.bind((address, 0))
            listener.listen()
            assert listens_publicly(listener.getsockname()[1]) is (address == "0.0.0.0")


@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_a_tracking_server_that_cannot_be_used_is_reported_with_the_reason() -> None:
    assert "no server" in tracking_error("sqlite:///mlflow.db", store_error)
    assert "not set" in tracking_error("", store_error)
    assert "127.0.0.1:9" in tracking_error("http://127.0.0.1:9", store_error)


@pytest.mark.filterwarnings("ignore")  # torch's own, without a GPU
def test_a_node_says_where_its_token_is_and_whether_kuberay_started_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RAY_AUTH_TOKEN", "KUBERAY_GEN_RAY_START_CMD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAYSEARCH_CACHE", str(tmp_path / "cache"))
    probe = StorageProbe(str(tmp_path / "studies"))
    facts = measure_node(probe.studies, probe.name, 0.0, store_error)
    assert (facts.token_variable, facts.token_mode, facts.in_kuberay) == (False, None, False)
    assert facts.storage_error == ""
    # KubeRay sets both in every container.
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0123456789abcdef")
    monkeypatch.setenv("KUBERAY_GEN_RAY_START_CMD", "ray start --head")
    facts = measure_node(probe.studies, probe.name, 0.0, store_error)
    assert (facts.token_variable, facts.token_mode, facts.in_kuberay) == (True, None, True)
    assert "0123456789abcdef" not in repr(facts)
