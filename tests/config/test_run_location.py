"""Where a study runs: the values of `--on`, and RAY_ADDRESS."""

from __future__ import annotations

from pathlib import Path

import pytest

from raysearch.config.run_location import (
    RemoteCluster,
    cluster_address,
    remote_cluster,
    use_place,
)
from raysearch.errors import DataError, StudyError


@pytest.mark.parametrize(
    ("place", "is_address"),
    [
        ("cluster.yaml", False),
        ("clusters/onprem.yml", False),
        ("http://head:8265", True),
        ("https://ray.example.org/cluster", True),
    ],
)
def test_a_file_or_an_address_is_a_remote_cluster(place: str, is_address: bool) -> None:
    cluster = remote_cluster(place)
    assert cluster == RemoteCluster(place)
    assert cluster.is_address == is_address
    assert cluster.option == f"--on {place}"


def test_a_file_of_any_name_is_a_cluster_file(tmp_path: Path) -> None:
    file = tmp_path / "my cluster"
    file.touch()
    cluster = remote_cluster(str(file))
    assert cluster is not None
    assert cluster.option == f"--on '{file}'"


def test_ray_address_is_honoured_unless_there_is_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "https://head:8265/")
    assert remote_cluster(None) == RemoteCluster("https://head:8265")
    assert remote_cluster("local") is None
    assert remote_cluster("x.yaml") == RemoteCluster("x.yaml")
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert remote_cluster(None) is None
    assert cluster_address() == "10.0.0.1:6379"


@pytest.mark.parametrize(
    ("before", "place", "after"),
    [
        (None, "local", None),
        ("10.0.0.1:6379", "local", None),
        (None, "auto", "auto"),
        ("local", "auto", "auto"),
        ("http://head:8265", "auto", "auto"),
        ("10.0.0.1:6379", "auto", "10.0.0.1:6379"),
        ("10.0.0.1:6379", None, "10.0.0.1:6379"),
        ("10.0.0.1:6379", "cluster.yaml", "10.0.0.1:6379"),
        (None, None, None),
    ],
)
def test_the_option_decides_which_ray_is_joined(
    monkeypatch: pytest.MonkeyPatch, before: str | None, place: str | None, after: str | None
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", before or "")
    if before is None:
        monkeypatch.delenv("RAY_ADDRESS")
    use_place(place)
    assert cluster_address() == after


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("nowhere", "not a place where studies run; give `local`, `auto`, a file"),
        ("ray://head:10001", "not a place where studies run; give `local`, `auto`, a file"),
        (
            "10.0.0.1:6379",
            "To join a Ray by its GCS address, such as 10.0.0.1:6379, set RAY_ADDRESS",
        ),
        ("", "not a place where studies run"),
    ],
)
def test_other_places_are_rejected_with_what_is_allowed(place: str, message: str) -> None:
    with pytest.raises(StudyError) as caught:
        remote_cluster(place)
    assert message in str(caught.value)
    assert "http://head:8265" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_address_with_a_password_is_rejected() -> None:
    with pytest.raises(DataError, match="contains a password"):
        remote_cluster("https://me:secret@head:8265")
