"""The slots of a node, and what happens if no node has one."""

from __future__ import annotations

import pytest
import yaml

from raysearch.config.space import Resources
from raysearch.config.space_file import parse_space
from raysearch.errors import SpaceError, StudyError
from raysearch.search.engine import nodes
from raysearch.search.engine.nodes import Node, wait_for_nodes


@pytest.mark.parametrize(
    ("cpus", "gpus", "resources", "num_slots"),
    [
        (4, 0, Resources(1, 0), 4),
        (4, 0, Resources(0.5, 0), 8),
        (4, 1, Resources(1, 1), 1),
        (4, 1, Resources(1, 0.25), 4),
        (2, 1, Resources(1, 0.25), 2),
        (8, 1, Resources(1, 0.3), 3),
        # A trial uses one device: the unused 0.4 of each of the two make no slot.
        (8, 2, Resources(1, 0.6), 2),
        (8, 3, Resources(1, 0.5), 6),
        (0, 1, Resources(1, 0.5), 0),
        (4, 0, Resources(1, 0.5), 0),
    ],
)
def test_the_slots_of_a_node_fit_its_cores_and_each_of_its_devices(
    cpus: float, gpus: float, resources: Resources, num_slots: int
) -> None:
    assert Node("a", "", True, cpus, gpus).num_slots(resources) == num_slots
    assert Node("a", "", False, cpus, gpus).num_slots(resources) == 0


@pytest.mark.parametrize("resources", ["gpus: 1.5", "gpus: 2", "cpus: 2.5"])
def test_resources_that_no_node_can_assign_are_rejected(resources: str) -> None:
    with pytest.raises(SpaceError, match=resources.partition(":")[0]):
        parse_space(yaml.safe_load(f"{{resources: {{{resources}}}, space: {{folds: 2}}}}"), "x")


def test_a_cluster_without_nodes_and_one_with_too_small_nodes_differ_in_their_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    record = {"NodeID": "a", "Alive": False, "Resources": {"CPU": 2.0}}
    monkeypatch.setattr("ray.nodes", lambda: [record])
    monkeypatch.setattr(nodes, "draining_node_ids", set)
    monkeypatch.setenv("RAY_ADDRESS", "local")
    with pytest.raises(StudyError, match="Ray has lost every machine"):
        wait_for_nodes(Resources(cpus=1, gpus=0))
    record["Alive"] = True
    with pytest.raises(StudyError, match="no machine has the 4 CPUs"):
        wait_for_nodes(Resources(cpus=4, gpus=0))
    assert wait_for_nodes(Resources(cpus=1, gpus=0)) == [Node("a", "", True, 2.0, 0.0)]


def test_a_draining_node_is_not_available(monkeypatch: pytest.MonkeyPatch) -> None:
    records = [{"NodeID": name, "Alive": True, "Resources": {"CPU": 2.0}} for name in "ab"]
    monkeypatch.setattr("ray.nodes", lambda: records)
    monkeypatch.setattr(nodes, "draining_node_ids", lambda: {"a"})
    assert [node.id for node in nodes.available_nodes(Resources(1, 0))] == ["b"]
    assert nodes.num_slots(Resources(1, 0)) == 2


def test_a_slot_costs_its_fraction_of_the_nodes_price(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "ray.nodes", lambda: [{"NodeID": "a", "Alive": True, "Resources": {"CPU": 4.0}}]
    )
    monkeypatch.setattr(nodes, "current_node_id", lambda: "a")
    resources = Resources(2, 0, prices=(("small", 3.6), ("large", 7.2)))
    monkeypatch.setenv(nodes.NODE_TYPE, "small")
    assert nodes.dollars_per_second(resources) == pytest.approx(0.0005)
    monkeypatch.setenv(nodes.NODE_TYPE, "unknown")  # counts as the most expensive type
    assert nodes.dollars_per_second(resources) == pytest.approx(0.001)
    assert nodes.dollars_per_second(Resources(2, 0)) == 0.0
