"""Runs a function in a subprocess with limits, so that a crash or a hang does no harm."""

from __future__ import annotations

import multiprocessing
import resource
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, TypeVar

T = TypeVar("T")


class IsolatedProcessError(Exception):
    """The subprocess did not finish; the message is the reason, in a few words."""


def run_isolated(
    function: Callable[..., T], *arguments: Any, timeout_s: float, memory_bytes: int
) -> T:
    """Call `function` in a new process and return its result; what it raises is raised here.

    Args:
        function: An importable function.
        *arguments: Its arguments; like the result, they must be picklable.
        timeout_s: Time limit in seconds.
        memory_bytes: Limit of the process's address space.

    Raises:
        IsolatedProcessError: If the process crashes or exceeds a limit.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(
        target=_run, args=(sender, memory_bytes, function, arguments), daemon=True
    )
    process.start()
    sender.close()
    try:
        if not receiver.poll(timeout_s):
            raise IsolatedProcessError(f"its reader took longer than {timeout_s:g} s")
        succeeded, value = receiver.recv()
    except EOFError:
        raise IsolatedProcessError("its reader crashed") from None
    finally:
        process.kill()
        process.join()
        receiver.close()
    if succeeded:
        return value  # type: ignore[no-any-return]
    raise value


def _run(
    sender: Connection, memory_bytes: int, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        sender.send((True, function(*arguments)))
    except MemoryError:
        sender.send((False, IsolatedProcessError("its reader needs too much memory")))
    except Exception as error:  # the caller handles it
        sender.send((False, error))
