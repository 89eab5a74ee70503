"""A function run in a process of its own, which may crash or hang there without harm."""

from __future__ import annotations

import multiprocessing
import resource
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, TypeVar

T = TypeVar("T")
KILLED = "its reader crashed"
SLOW = "its reader took longer than {limit:g} s"


class IsolatedProcessError(Exception):
    """The function could not be run to its end; the message is the reason, in a few words."""


def run_isolated(
    function: Callable[..., T], *arguments: Any, limit_s: float, memory_bytes: int
) -> T:
    """What `function` returns, an importable one, of and with values that can be pickled.

    What it raises is raised here. ApartError where its process dies, takes longer than `limit_s`,
    or wants more than `memory_bytes` of address space.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(
        target=_run, args=(there, memory_bytes, function, arguments), daemon=True
    )
    process.start()
    there.close()
    try:
        if not here.poll(limit_s):
            raise IsolatedProcessError(SLOW.format(limit=limit_s))
        good, value = here.recv()
    except EOFError:
        raise IsolatedProcessError(KILLED) from None
    finally:
        process.kill()
        process.join()
        here.close()
    if good:
        return value  # type: ignore[no-any-return]
    raise value


def _run(
    answer: Connection, memory_bytes: int, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        answer.send((True, function(*arguments)))
    except MemoryError:
        answer.send((False, IsolatedProcessError("its reader wants too much memory")))
    except Exception as error:  # it is for the caller to judge
        answer.send((False, error))
