"""Runs every task that is not a Tune trial on actors over the nodes of the cluster."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Generic

import ray
from ray.exceptions import RayError

from raysearch.config.space import Resources
from raysearch.search.engine.actor_task import (
    ActorTask,
    FinishedTask,
    Input,
    Output,
    RemoteFunction,
    WorkerLostError,
)
from raysearch.search.engine.nodes import (
    Node,
    Slot,
    available_nodes,
    draining_node_ids,
    request_nodes,
    wait_for_nodes,
)

log = logging.getLogger(__name__)
# A task whose worker is lost is started again this often before it counts as failed.
MAX_WORKER_LOSSES = 3
# The pool looks for new and draining nodes this often.
POLL_S = 2.0


class TaskQueue(Generic[Input]):
    """The inputs that wait for a worker, and how often each has lost one.

    Args:
        inputs: The inputs in the order in which they start.
    """

    def __init__(self, inputs: Iterable[Input]) -> None:
        self._waiting = deque(inputs)
        self._losses: Counter[Input] = Counter()

    def __len__(self) -> int:
        return len(self._waiting)

    def pop(self) -> Input:
        """Return the next input, and remove it."""
        return self._waiting.popleft()

    def put_first(self, value: Input) -> None:
        """Let an input that was interrupted start before all others."""
        self._waiting.appendleft(value)

    def record_loss(self, value: Input) -> int:
        """Let an input that lost its worker start before all others; return its losses so far."""
        self.put_first(value)
        self._losses[value] += 1
        return self._losses[value]

    def remove(self, is_cancelled: Callable[[Input], bool]) -> None:
        """Remove the inputs that are cancelled."""
        self._waiting = deque(value for value in self._waiting if not is_cancelled(value))


def _no_progress(_num_unfinished: int) -> None:
    pass


class WorkerPool(Generic[Input, Output]):
    """Runs a function for many inputs, as many at once as the cluster holds.

    A worker is an actor pinned to a node; it is reused for the next input. If a worker is lost,
    its input starts again, at most `MAX_WORKER_LOSSES` times. A draining node gets no new input,
    and its inputs move to another node once a slot is free there.

    Args:
        function: The function.
        resources: What a node must have to take part.
        slots: Divides the nodes into slots; as many for `resources` as they hold by default.
        max_workers: The limit of workers; None for as many as there are slots.
        on_progress: Called with the number of unfinished inputs whenever it changes.
    """

    def __init__(
        self,
        function: RemoteFunction[Input, Output],
        resources: Resources,
        *,
        slots: Callable[[Sequence[Node]], list[Slot]] | None = None,
        max_workers: int | None = None,
        on_progress: Callable[[int], None] = _no_progress,
    ) -> None:
        self._function, self._resources = function, resources
        self._slots = slots or _all_slots(resources)
        self._max_workers = max_workers
        self._on_progress = on_progress
        self._queue: TaskQueue[Input] = TaskQueue(())
        self._running: set[ActorTask[Input, Output]] = set()

    def run(self, inputs: Collection[Input]) -> Iterator[FinishedTask[Input, Output]]:
        """Run the function for each input; yield the finished tasks in any order.

        Raises:
            WorkerLostError: If an input loses its worker too often, or fails too often with an
                exception of `retry_on`.
            StudyError: If no node has a slot.
        """
        request_nodes(self._resources, min(len(inputs), self._max_workers or len(inputs)))
        self._queue = TaskQueue(inputs)
        num_unfinished = None
        try:
            while self._queue or self._running:
                self._start_tasks()
                if num_unfinished != (now := len(self._queue) + len(self._running)):
                    num_unfinished = now
                    self._on_progress(now)
                for task in ActorTask.wait(self._running, POLL_S):
                    yield from self._finish(task)
        finally:
            self._kill(self._running)

    def cancel(self, is_cancelled: Callable[[Input], bool]) -> None:
        """Neither start nor finish the inputs that are cancelled; end the processes they run in."""
        self._queue.remove(is_cancelled)
        self._kill([task for task in self._running if is_cancelled(task.input)])

    def run_on_each_node(self, value: Input) -> list[Output]:
        """Run the function for one input once on every node, and return all outputs.

        A node that is lost meanwhile has none.

        Raises:
            WorkerLostError: If all nodes are lost.
            StudyError: If no node has a slot.
        """
        tasks = [
            ActorTask(self._function, Slot(node.id, self._resources), value)
            for node in wait_for_nodes(self._resources)
        ]
        outputs: list[Output] = []
        last_error: WorkerLostError | None = None
        for task in tasks:
            try:
                outputs.append(task.result())
            except WorkerLostError as error:
                last_error = error
        if last_error is not None and not outputs:
            raise last_error
        return outputs

    def _start_tasks(self) -> None:
        """Start inputs in the free slots; if slots are left, move tasks off draining nodes."""
        free = self._free_slots()
        draining_ids = draining_node_ids() if self._running else set()
        draining = [task for task in self._running if task.slot.node_id in draining_ids]
        if self._max_workers is not None:
            free = free[: max(0, self._max_workers - len(self._running) + len(draining))]
        for task in draining[: max(0, len(free) - len(self._queue))]:
            log.warning("%s leaves a draining node", self._function.describe(task.input))
            self._queue.put_first(task.input)
            self._kill([task])
        for slot in free:
            if not self._queue or len(self._running) == self._max_workers:
                return
            self._running.add(ActorTask(self._function, slot, self._queue.pop()))

    def _free_slots(self) -> list[Slot]:
        """Return the slots of available nodes that no task runs in; wait for a node if idle."""
        find_nodes = available_nodes if self._running else wait_for_nodes
        used = Counter(task.slot for task in self._running)
        free = []
        for slot in self._slots(find_nodes(self._resources)):
            if used[slot]:
                used[slot] -= 1
            else:
                free.append(slot)
        return free

    def _finish(self, task: ActorTask[Input, Output]) -> Iterator[FinishedTask[Input, Output]]:
        """Yield the task unless it has to run again; then give its worker the next input."""
        self._running.remove(task)
        retry_on: tuple[type[Exception], ...] = (WorkerLostError, *self._function.retry_on)
        finished: FinishedTask[Input, Output]
        try:
            finished = FinishedTask(task.input, output=task.result())
        except retry_on as error:
            self._retry(task, error)
            return
        except Exception as error:  # the caller decides what an exception of the function means
            finished = FinishedTask(task.input, error=error)
        yield finished
        node_ids = {node.id for node in available_nodes(self._resources)}
        if self._queue and task.slot.node_id in node_ids:
            task.run(self._queue.pop())
            self._running.add(task)
        else:
            task.kill()

    def _retry(self, task: ActorTask[Input, Output], error: Exception) -> None:
        name = self._function.describe(task.input)
        task.kill()
        if self._queue.record_loss(task.input) > MAX_WORKER_LOSSES:
            raise WorkerLostError(
                f"{name} failed on {MAX_WORKER_LOSSES + 1} workers ({error}); fix the cause, then"
                " resume with --resume"
            ) from None
        log.warning("%s starts again on another worker: %s", name, error)

    def _kill(self, tasks: Iterable[ActorTask[Input, Output]]) -> None:
        for task in list(tasks):
            self._running.discard(task)
            with suppress(RayError):
                task.kill()


def _all_slots(resources: Resources) -> Callable[[Sequence[Node]], list[Slot]]:
    return lambda nodes: [
        Slot(node.id, resources) for node in nodes for _slot in range(node.num_slots(resources))
    ]


def run_on_workers(
    make: Callable[[], Callable[[int], object]], numbers: Sequence[int], max_workers: int
) -> Iterator[int]:
    """Run a function for each of `numbers` on at most `max_workers` workers.

    A worker has one CPU, and one GPU if the cluster has as many GPUs as workers.

    Args:
        make: Returns the function; called once in each worker process.
        numbers: The arguments of the function.
        max_workers: The limit of workers.

    Yields:
        Each number when it is done, in any order.
    """
    gpus = 1.0 if ray.cluster_resources().get("GPU", 0) >= max_workers else 0.0
    resources = Resources(cpus=1.0, gpus=gpus)
    pool = WorkerPool(
        RemoteFunction[int, object](make, describe=lambda number: f"batch {number}"),
        resources,
        max_workers=max_workers,
    )
    try:
        for task in pool.run(numbers):
            task.result()
            yield task.input
    finally:
        request_nodes(resources, 0)
