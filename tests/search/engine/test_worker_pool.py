"""The pool of workers: slots, reuse, retries after losses, draining nodes, cancellation."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ray import cloudpickle

from raysearch.config.space import Resources
from raysearch.errors import DataError
from raysearch.search.engine import worker_pool
from raysearch.search.engine.actor_task import (
    RemoteFunction,
    WorkerLostError,
    WorkerOutOfMemoryError,
)
from raysearch.search.engine.nodes import Node, Slot
from raysearch.search.engine.ray_session import ray_session
from raysearch.search.engine.worker_pool import (
    MAX_WORKER_LOSSES,
    TaskQueue,
    WorkerPool,
    run_on_workers,
)

CPU = Resources(cpus=1.0)


def test_an_input_that_lost_its_worker_starts_first() -> None:
    queue = TaskQueue(["a", "b"])
    assert queue.pop() == "a"
    assert queue.record_loss("a") == 1
    assert queue.pop() == "a"
    assert queue.record_loss("a") == 2
    assert [queue.pop(), queue.pop()] == ["a", "b"]
    assert not queue


def test_cancelled_inputs_do_not_start() -> None:
    queue = TaskQueue([1, 2, 3, 4])
    queue.remove(lambda value: value % 2 == 0)
    assert [queue.pop() for _ in range(len(queue))] == [1, 3]


class Cluster:
    """Nodes and actors of a test, in this process; a task ends when `wait` selects it."""

    def __init__(self) -> None:
        self.nodes = [node("one", 2), node("two", 1)]
        self.draining: set[str] = set()
        self.dead: set[str] = set()
        self.num_actors = 0
        self.max_running = 0
        self.requests: list[int] = []
        self.killed: list[Any] = []
        self.started: list[tuple[str, Any]] = []
        # What happens when an input ends, in turn; its name if nothing is left.
        self.errors: dict[Any, list[Exception]] = {}
        self.before_wait: Callable[[], None] = lambda: None

    def available(self, _resources: Resources) -> list[Node]:
        return [node for node in self.nodes if node.id not in self.draining]

    def all(self) -> list[Node]:
        return [replace(node, alive=node.id not in self.dead) for node in self.nodes]

    def actor(self) -> type:
        cluster = self

        class Task:
            def __init__(self, function: Any, slot: Slot, value: Any) -> None:
                self.slot, self.function = slot, function
                cluster.num_actors += 1
                self.run(value)

            def run(self, value: Any) -> None:
                self.input = value
                cluster.started.append((self.slot.node_id, value))

            def result(self) -> Any:
                errors = cluster.errors.get(self.input, [])
                if errors:
                    raise errors.pop(0)
                return self.function.make()(*self.function.arguments(self.input, self.slot))

            def kill(self) -> None:
                cluster.killed.append(self.input)

            @staticmethod
            def wait(tasks: Iterable[Any], _timeout_s: float) -> list[Any]:
                running = sorted(tasks, key=lambda task: cluster.started.index(start_of(task)))
                cluster.max_running = max(cluster.max_running, len(running))
                cluster.before_wait()
                return running[:1]

        return Task


def start_of(task: Any) -> tuple[str, Any]:
    return task.slot.node_id, task.input


def node(name: str, cpus: float) -> Node:
    return Node(name, "", True, cpus, 0.0)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    cluster = Cluster()
    monkeypatch.setattr(worker_pool, "all_nodes", cluster.all)
    monkeypatch.setattr(worker_pool, "available_nodes", cluster.available)
    monkeypatch.setattr(worker_pool, "wait_for_nodes", cluster.available)
    monkeypatch.setattr(worker_pool, "draining_node_ids", lambda: cluster.draining)
    monkeypatch.setattr(
        worker_pool, "request_nodes", lambda _, count: cluster.requests.append(count)
    )
    monkeypatch.setattr(worker_pool, "ActorTask", cluster.actor())
    return cluster


def square() -> Callable[[int], int]:
    return lambda value: value * value


SQUARE = RemoteFunction[int, int](square)


def test_every_slot_runs_an_input_and_its_worker_is_reused(cluster: Cluster) -> None:
    progress: list[int] = []
    pool = WorkerPool(SQUARE, CPU, on_progress=progress.append)
    finished = list(pool.run(range(6)))
    assert sorted(task.result() for task in finished) == [0, 1, 4, 9, 16, 25]
    assert cluster.num_actors == cluster.max_running == 3
    assert progress == [6, 5, 4, 3, 2, 1]
    assert cluster.requests == [6]


def test_there_are_no_more_workers_than_asked_for(cluster: Cluster) -> None:
    list(WorkerPool(SQUARE, CPU, max_workers=2).run(range(6)))
    assert cluster.num_actors == cluster.max_running == 2
    assert cluster.requests == [2]


def test_a_node_without_the_resources_takes_no_input(cluster: Cluster) -> None:
    list(WorkerPool(SQUARE, Resources(cpus=2.0)).run(range(3)))
    assert {name for name, _value in cluster.started} == {"one"}
    assert cluster.max_running == 1


def test_an_input_whose_worker_is_lost_starts_again(cluster: Cluster) -> None:
    cluster.errors[1] = [WorkerLostError("gone")] * MAX_WORKER_LOSSES
    finished = list(WorkerPool(SQUARE, CPU).run(range(2)))
    assert sorted(task.input for task in finished) == [0, 1]
    assert [value for _name, value in cluster.started].count(1) == MAX_WORKER_LOSSES + 1
    assert cluster.num_actors == 2 + MAX_WORKER_LOSSES  # a lost worker is not reused


def test_an_input_that_loses_its_worker_too_often_ends_the_run(cluster: Cluster) -> None:
    cluster.errors[1] = [WorkerLostError("gone")] * (MAX_WORKER_LOSSES + 1)
    pool = WorkerPool(RemoteFunction[int, int](square, describe=lambda value: f"fold {value}"), CPU)
    with pytest.raises(WorkerLostError, match=r"fold 1 failed on 4 workers \(gone\)"):
        list(pool.run([0, 1, 2]))


def test_an_error_of_the_function_reaches_the_caller_unless_it_is_retried(
    cluster: Cluster,
) -> None:
    cluster.errors[1] = [DataError("damaged")]
    (finished,) = WorkerPool(SQUARE, CPU).run([1])
    with pytest.raises(DataError, match="damaged"):
        finished.result()
    cluster.errors[1] = [DataError("damaged")]
    retrying = RemoteFunction[int, int](square, retry_on=(DataError,))
    (finished,) = WorkerPool(retrying, CPU).run([1])
    assert finished.result() == 1


def test_cancelled_inputs_are_neither_started_nor_finished(cluster: Cluster) -> None:
    pool = WorkerPool(SQUARE, CPU)
    finished = []
    for task in pool.run(range(8)):
        finished.append(task.input)
        if task.input == 0:
            pool.cancel(lambda value: value % 2 == 1)
    assert sorted(finished) == [0, 2, 4, 6]
    assert 1 in cluster.killed  # it was running
    assert 3 not in {value for _name, value in cluster.started}


def test_a_draining_node_gets_no_new_input(cluster: Cluster) -> None:
    pool = WorkerPool(SQUARE, CPU)
    for task in pool.run(range(9)):
        if task.input == 0:
            cluster.draining = {"two"}
            started = len(cluster.started)
    assert {name for name, _value in cluster.started[started:]} == {"one"}


def test_an_input_moves_from_a_draining_node_to_a_free_slot(cluster: Cluster) -> None:
    cluster.nodes = [node("one", 1), node("two", 1)]

    def drain() -> None:
        cluster.draining = {"one"}
        cluster.nodes = [node("one", 1), node("two", 2)]

    cluster.before_wait = drain
    finished = [(task.input, task.result()) for task in WorkerPool(SQUARE, CPU).run([1, 2, 3])]
    assert sorted(finished) == [(1, 1), (2, 4), (3, 9)]
    assert cluster.started[:2] == [("one", 1), ("two", 2)]
    assert {name for name, _value in cluster.started[2:]} == {"two"}


def test_a_running_input_stays_on_a_draining_node_while_no_slot_is_free(cluster: Cluster) -> None:
    cluster.nodes = [node("one", 1)]
    cluster.before_wait = lambda: cluster.draining.add("one")
    (finished,) = WorkerPool(SQUARE, CPU).run([3])
    assert finished.result() == 9
    assert cluster.started == [("one", 3)]


def test_workers_are_ended_when_the_caller_stops(cluster: Cluster) -> None:
    run = WorkerPool(SQUARE, CPU).run(range(6))
    next(run)
    run.close()  # type: ignore[attr-defined]
    assert sorted(cluster.killed) == [1, 2]


def test_the_slots_decide_where_and_with_what_an_input_runs(cluster: Cluster) -> None:
    def largest(nodes: Any) -> list[Slot]:
        return [Slot(max(nodes, key=lambda node: node.cpus).id, Resources(cpus=2.0))]

    cpus = RemoteFunction[str, float](
        lambda: lambda value: value, lambda _name, slot: (slot.resources.cpus,)
    )
    (finished,) = WorkerPool(cpus, CPU, slots=largest).run(["refit"])
    assert finished.result() == 2.0
    assert cluster.started == [("one", "refit")]


def test_every_node_runs_each_input_once_and_a_lost_node_is_left_out(cluster: Cluster) -> None:
    cluster.errors[3] = [WorkerLostError("gone")]
    ((three, four),) = WorkerPool(SQUARE, CPU).run_on_each_node([3, 4])
    assert (three.result(), four.result()) == (9, 16)
    assert cluster.started[:2] == [("one", 3), ("two", 3)]
    cluster.errors[3] = [WorkerLostError("gone"), WorkerLostError("gone")]
    with pytest.raises(WorkerLostError, match="gone"):
        WorkerPool(SQUARE, CPU).run_on_each_node([3])


def test_a_node_that_loses_a_later_input_runs_the_next_one_in_a_new_process(
    cluster: Cluster,
) -> None:
    cluster.errors[4] = [WorkerOutOfMemoryError("memory"), ValueError("of the function")]
    one, two = WorkerPool(SQUARE, CPU).run_on_each_node([3, 4, 5])
    assert [task.output for task in (*one, *two)] == [9, None, 25, 9, None, 25]
    assert {type(node[1].error) for node in (one, two)} == {WorkerOutOfMemoryError, ValueError}


def test_a_later_input_whose_process_is_lost_runs_once_more_on_its_node(cluster: Cluster) -> None:
    cluster.nodes = [node("one", 2)]
    cluster.errors[4] = [WorkerLostError("gone")]
    ((three, four),) = WorkerPool(SQUARE, CPU).run_on_each_node([3, 4])
    assert (three.result(), four.result()) == (9, 16)
    cluster.errors[4] = [WorkerLostError("gone")] * 3
    ((_three, four),) = WorkerPool(SQUARE, CPU).run_on_each_node([3, 4])
    assert isinstance(four.error, WorkerLostError)
    assert len(cluster.errors[4]) == 1  # no third time
    assert [value for _name, value in cluster.started] == [3, 4, 4] * 2


def test_a_node_that_is_lost_at_a_later_input_is_left_out(cluster: Cluster) -> None:
    cluster.errors[4] = [WorkerLostError("gone")] * 2
    pool = WorkerPool(SQUARE, CPU)
    cluster.dead = {"one"}
    ((three, four),) = pool.run_on_each_node([3, 4])
    assert (three.result(), four.result()) == (9, 16)
    assert cluster.started[-1] == ("one", 4)
    cluster.errors[4], cluster.dead = [WorkerLostError("gone")] * 4, {"one", "two"}
    with pytest.raises(WorkerLostError, match="gone"):
        pool.run_on_each_node([3, 4])


def test_messages_of_lost_workers_name_one_reason_in_one_line(cluster: Cluster) -> None:
    advised = RemoteFunction[int, int](square, describe=lambda value: f"fold {value}")
    cluster.errors[3] = [WorkerOutOfMemoryError("a worker (the kernel)", "the kernel")] * 2
    with pytest.raises(WorkerOutOfMemoryError) as error:
        list(WorkerPool(advised, CPU).run([3]))
    assert str(error.value).startswith("fold 3 ran out of memory on 2 workers (the kernel); free")
    cluster.errors[3] = [WorkerLostError("a worker (died); often", "died")] * 4
    with pytest.raises(WorkerLostError, match=r"^fold 3 failed on 4 workers \(died\); often its"):
        list(WorkerPool(advised, CPU).run([3]))
    retried = replace(advised, retry_on=(DataError,))
    cluster.errors[3] = [DataError("first error\nsecond error")] * 4
    with pytest.raises(WorkerLostError) as failure:
        list(WorkerPool(retried, CPU).run([3]))
    assert str(failure.value) == (
        "fold 3 failed on 4 workers (first error); fix the cause, then resume with --resume"
    )


def test_an_input_without_memory_starts_again_once_and_is_then_named(cluster: Cluster) -> None:
    cluster.errors[3] = [WorkerOutOfMemoryError("memory")] * 2
    with pytest.raises(WorkerOutOfMemoryError, match="3 ran out of memory on 2 workers"):
        list(WorkerPool(SQUARE, CPU).run([3]))


class Scorer:
    """Writes its process and the input into a folder; dies once in the middle of an input."""

    def __init__(self, folder: Path, fatal: int) -> None:
        self.folder, self.fatal = folder, fatal
        (folder / f"made-{os.getpid()}").touch()

    def __call__(self, number: int) -> None:
        died = self.folder / "died"
        if number == self.fatal and not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        (self.folder / f"done-{number}").touch()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_killed_process_is_replaced_and_every_number_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "local")
    scorer = make_scorer(tmp_path)
    with ray_session():
        assert sorted(run_on_workers(scorer, list(range(12)), 2)) == list(range(12))
    assert len(list(tmp_path.glob("done-*"))) == 12
    assert (tmp_path / "died").exists()
    assert len(list(tmp_path.glob("made-*"))) == 3  # two workers, and one in place of the killed


def make_scorer(folder: Path) -> Callable[[], Callable[[int], object]]:
    """A function that Ray pickles whole: its workers do not have this module."""
    cloudpickle.register_pickle_by_value(__import__(__name__, fromlist=["Scorer"]))
    return lambda: Scorer(folder, 5)
