"""Runs the tasks of a study that are no Tune trials, and distributed prediction, on actors."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Generic

import ray
from ray.exceptions import RayError

from raysearch.config.space import Resources
from raysearch.data.disk_errors import error_text
from raysearch.search.engine.actor_task import (
    ActorTask,
    FinishedTask,
    Input,
    Output,
    RemoteFunction,
    WorkerLostError,
    WorkerOutOfMemoryError,
)
from raysearch.search.engine.memory_losses import LOSS_ADVICE
from raysearch.search.engine.nodes import (
    Node,
    Slot,
    all_nodes,
    available_nodes,
    draining_node_ids,
    request_nodes,
    wait_for_nodes,
)
from raysearch.search.engine.worker_stalls import workers_expected

log = logging.getLogger(__name__)
# A task whose worker is lost is started again this often before it counts as failed.
MAX_WORKER_LOSSES = 3
# After losses for lack of memory, less often: another process may have used the memory.
MAX_MEMORY_LOSSES = 1
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


def _no_poll() -> None:
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
        on_poll: Called every `POLL_S` seconds, and whenever an input has ended.
    """

    def __init__(
        self,
        function: RemoteFunction[Input, Output],
        resources: Resources,
        *,
        slots: Callable[[Sequence[Node]], list[Slot]] | None = None,
        max_workers: int | None = None,
        on_progress: Callable[[int], None] = _no_progress,
        on_poll: Callable[[], None] = _no_poll,
    ) -> None:
        self._function, self._resources = function, resources
        self._slots = slots or _all_slots(resources)
        self._max_workers = max_workers
        self._on_progress, self._on_poll = on_progress, on_poll
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
                with workers_expected():
                    self._start_tasks()
                    if num_unfinished != (now := len(self._queue) + len(self._running)):
                        num_unfinished = now
                        self._on_progress(now)
                    self._on_poll()
                    ended = ActorTask.wait(self._running, POLL_S)
                for task in ended:
                    yield from self._finish(task)
        finally:
            self._kill(self._running)

    def cancel(self, is_cancelled: Callable[[Input], bool]) -> None:
        """Neither start nor finish the inputs that are cancelled; end the processes they run in."""
        self._queue.remove(is_cancelled)
        self._kill([task for task in self._running if is_cancelled(task.input)])

    def run_on_each_node(self, inputs: Sequence[Input]) -> list[list[FinishedTask[Input, Output]]]:
        """Run the function for each input once on every node, in one process a node.

        If a process is lost, its input runs once more in a new one, unless memory was too small.
        A node that loses the process of the first input, or that is lost itself, is left out.

        Args:
            inputs: The inputs, which the nodes run at the same time, one after another.

        Returns:
            For each node, the finished tasks in the order of `inputs`.

        Raises:
            WorkerLostError: If all nodes are left out.
            StudyError: If no node has a slot.
        """
        tasks = [
            ActorTask(self._function, Slot(node.id, self._resources), inputs[0])
            for node in wait_for_nodes(self._resources)
        ]
        finished = {task.slot.node_id: [_finished(task)] for task in tasks}
        losses = [node[0].error for node in finished.values()]
        first_losses = [error for error in losses if isinstance(error, WorkerLostError)]
        if len(first_losses) == len(tasks):
            raise first_losses[-1]
        tasks = [
            task
            for task in tasks
            if not isinstance(finished[task.slot.node_id][0].error, WorkerLostError)
        ]
        for value in inputs[1:]:
            tasks = [self._run_next(task, value, finished[task.slot.node_id][-1]) for task in tasks]
            tasks = [self._repeat_if_lost(task, finished[task.slot.node_id]) for task in tasks]
            tasks = _on_living_nodes(tasks, finished)
        return [finished[task.slot.node_id] for task in tasks]

    def _run_next(
        self, task: ActorTask[Input, Output], value: Input, last: FinishedTask[Input, Output]
    ) -> ActorTask[Input, Output]:
        """Run another input in the process of a task; in a new one if the last input lost it."""
        if isinstance(last.error, WorkerLostError):
            return ActorTask(self._function, task.slot, value)
        task.run(value)
        return task

    def _repeat_if_lost(
        self, task: ActorTask[Input, Output], finished: list[FinishedTask[Input, Output]]
    ) -> ActorTask[Input, Output]:
        """Wait for a task, once more in a new process if its own is lost; add it to `finished`."""
        result = _finished(task)
        if _is_lost(result.error):
            name, slot = self._function.describe(task.input), task.slot
            log.warning("%s starts again on its node: %s", name, result.error)
            self._kill([task])
            task = ActorTask(self._function, slot, task.input)
            result = _finished(task)
        finished.append(result)
        return task

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
        finished = _finished(task)
        if isinstance(finished.error, retry_on):
            self._retry(task, finished.error)
            return
        yield finished
        node_ids = {node.id for node in available_nodes(self._resources)}
        if self._queue and task.slot.node_id in node_ids:
            task.run(self._queue.pop())
            self._running.add(task)
        else:
            self._kill([task])

    def _retry(self, task: ActorTask[Input, Output], error: Exception) -> None:
        name = self._function.describe(task.input)
        self._kill([task])
        num_losses = self._queue.record_loss(task.input)
        if isinstance(error, WorkerLostError):
            reason, hint = error.reason, f"{LOSS_ADVICE}; "
        else:
            reason, hint = error_text(error), ""
        if isinstance(error, WorkerOutOfMemoryError) and num_losses > MAX_MEMORY_LOSSES:
            raise WorkerOutOfMemoryError(
                f"{name} ran out of memory on {num_losses} workers ({reason}); free memory, or use"
                f" a machine with more of it, then {self._function.advice}"
            ) from None
        if num_losses > MAX_WORKER_LOSSES:
            raise WorkerLostError(
                f"{name} failed on {MAX_WORKER_LOSSES + 1} workers ({reason}); {hint}fix the cause,"
                f" then {self._function.advice}"
            ) from None
        log.warning("%s starts again on another worker: %s", name, reason)

    def _kill(self, tasks: Iterable[ActorTask[Input, Output]]) -> None:
        for task in list(tasks):
            self._running.discard(task)
            with suppress(RayError):
                task.kill()


def _finished(task: ActorTask[Input, Output]) -> FinishedTask[Input, Output]:
    """Wait for a task; return what it returned or raised."""
    try:
        return FinishedTask(task.input, output=task.result())
    except Exception as error:  # the caller decides what an exception of the function means
        return FinishedTask(task.input, error=error)


def _is_lost(error: Exception | None) -> bool:
    """Whether a worker was lost for another reason than memory."""
    return isinstance(error, WorkerLostError) and not isinstance(error, WorkerOutOfMemoryError)


def _on_living_nodes(
    tasks: Sequence[ActorTask[Input, Output]],
    finished: Mapping[str, Sequence[FinishedTask[Input, Output]]],
) -> list[ActorTask[Input, Output]]:
    """Return the tasks without those whose worker was lost with its node.

    Raises:
        WorkerLostError: If no task is left.
    """
    lost = [task for task in tasks if _is_lost(finished[task.slot.node_id][-1].error)]
    if not lost:
        return list(tasks)
    alive = {node.id for node in all_nodes() if node.alive}
    kept = [task for task in tasks if task not in lost or task.slot.node_id in alive]
    if not kept:
        finished[lost[0].slot.node_id][-1].result()  # raises the error
    return kept


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
        RemoteFunction[int, object](
            make,
            describe=lambda number: f"batch {number}",
            advice="run the same command again",
        ),
        resources,
        max_workers=max_workers,
    )
    try:
        for task in pool.run(numbers):
            task.result()
            yield task.input
    finally:
        request_nodes(resources, 0)
