"""A function that runs in a Ray actor on one node, and what it returned or raised."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raysearch.errors import StudyError, first_line
from raysearch.search.engine.memory_losses import LOSS_ADVICE, MemoryWatch
from raysearch.search.engine.nodes import Slot

Input = TypeVar("Input")
Output = TypeVar("Output")


class WorkerLostError(StudyError):
    """A worker could not start, or its process or its machine was lost.

    Args:
        message: The message.
        reason: Its cause in a few words, for the messages of others; `message` by default.
    """

    def __init__(self, message: str, reason: str | None = None) -> None:
        super().__init__(message)
        self.reason = message if reason is None else reason


class WorkerOutOfMemoryError(WorkerLostError):
    """The process of a worker was ended because the memory of its machine was too small."""


@dataclass(frozen=True)
class RemoteFunction(Generic[Input, Output]):
    """A function that a pool runs in worker processes.

    Attributes:
        make: Returns the function. It is called once in each worker process, which then keeps what
            the function needs for all its tasks, such as a model.
        arguments: The arguments of the function for an input and the slot that it runs in.
        describe: The name of an input in messages.
        retry_on: Exceptions of the function after which the input runs again in another process,
            as it does after the loss of its worker.
        advice: What the user does after the cause of lost workers is gone, for messages.
    """

    make: Callable[[], Callable[..., Output]]
    arguments: Callable[[Input, Slot], tuple[Any, ...]] = lambda value, _slot: (value,)
    describe: Callable[[Input], str] = str
    retry_on: tuple[type[Exception], ...] = ()
    advice: str = "resume with --resume"


@dataclass(frozen=True)
class FinishedTask(Generic[Input, Output]):
    """An input with what the function returned or raised."""

    input: Input
    output: Output | None = None
    error: Exception | None = None

    def result(self) -> Output:
        """Return the output; raise the error if the function raised one."""
        if self.error is not None:
            raise self.error
        return cast(Output, self.output)


class ActorTask(Generic[Input, Output]):
    """A function that runs in an actor on one node.

    Ray reports the loss of an actor's node at once. It never reports the loss of a plain task's
    node if the machine loses its network connection.
    """

    def __init__(self, function: RemoteFunction[Input, Output], slot: Slot, value: Input) -> None:
        self.slot = slot
        self._function = function
        self._actor = (
            ray.remote(_FunctionRunner)
            .options(
                num_cpus=slot.resources.cpus,
                num_gpus=slot.resources.gpus,
                scheduling_strategy=NodeAffinitySchedulingStrategy(slot.node_id, soft=False),
            )
            .remote(function.make)
        )
        self.run(value)

    def run(self, value: Input) -> None:
        """Run the function for another input in the same process, which is warm."""
        self.input = value
        arguments = self._function.arguments(value, self.slot)
        self._memory = MemoryWatch()
        self._answer = self._actor.run.remote(*arguments)

    def result(self) -> Output:
        """Wait for the function, and return what it returns.

        Raises:
            WorkerOutOfMemoryError: If the process was ended for lack of memory.
            WorkerLostError: If the process could not start or was lost.
            Exception: Whatever the function raised.
        """
        try:
            output: Output = ray.get(self._answer)
        except RayTaskError as error:
            raise error.cause from None
        except RayError as error:
            memory = self._memory.loss_reason(error, self.slot.node_id)
            if memory:
                raise WorkerOutOfMemoryError(
                    f"a worker ran out of memory ({memory})", memory
                ) from None
            reason = first_line(error)
            raise WorkerLostError(
                f"a worker could not start or was lost ({reason}); {LOSS_ADVICE}", reason
            ) from None
        return output

    def kill(self) -> None:
        """End the process, whatever runs in it."""
        ray.kill(self._actor)

    @staticmethod
    def wait(
        tasks: Iterable[ActorTask[Input, Output]], timeout_s: float
    ) -> list[ActorTask[Input, Output]]:
        """Return a task that has ended, in a list; an empty list after `timeout_s`."""
        by_answer = {task._answer: task for task in tasks}  # noqa: SLF001 of this class
        ready, _pending = ray.wait(list(by_answer), num_returns=1, timeout=timeout_s)
        return [by_answer[answer] for answer in ready]


class _FunctionRunner:
    """The actor: it makes its function when the first input comes."""

    def __init__(self, make: Callable[[], Callable[..., Any]]) -> None:
        self._make = make
        self._function: Callable[..., Any] | None = None

    def run(self, *arguments: Any) -> Any:
        if self._function is None:
            self._function = self._make()
        return self._function(*arguments)
