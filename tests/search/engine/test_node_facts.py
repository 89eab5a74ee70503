"""What a process measures of its own node."""

from __future__ import annotations

import socket

import pytest

from raysearch.search.engine.node_facts import listens_publicly, tracking_error
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
