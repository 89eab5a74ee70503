"""Finds out whether a process of Ray was ended because the memory of its machine was too small."""

from __future__ import annotations

from pathlib import Path

from ray.exceptions import OutOfMemoryError, RayError

from raysearch.search.engine.nodes import current_node_id

# Counters of Linux since the machine started; `oom_kill` counts the processes that it ended because
# a machine or a container was out of memory. Ray only reports that the connection was closed.
KERNEL_COUNTERS = Path("/proc/vmstat")
COUNTER = "oom_kill"
LOSS_ADVICE = "often its memory was too small; see Ray's logs"
# What Ray writes if its own monitor of memory ends a process.
RAY_TEXT = "running low on memory"


def kernel_kills() -> int:
    """Return how many processes this machine's kernel has ended for lack of memory."""
    try:
        lines = KERNEL_COUNTERS.read_text().splitlines()
    except OSError:  # not on Linux
        return 0
    return sum(int(line.split()[1]) for line in lines if line.split()[0] == COUNTER)


class MemoryWatch:
    """Tells losses for lack of memory from others, from its creation on."""

    def __init__(self) -> None:
        self._kills = kernel_kills()

    def loss_reason(self, error: RayError | str | None, node_id: str | None) -> str:
        """Return why a lost process lacked memory; empty if nothing shows that it did.

        The counter of this machine does not say which process was ended. On another machine, only
        Ray's own monitor is known.

        Args:
            error: What Ray raised, or its text.
            node_id: The node of the process; None if it is not known.
        """
        if isinstance(error, OutOfMemoryError) or RAY_TEXT in str(error):
            return "Ray ended the process because its machine was low on memory"
        num_kills = kernel_kills() - self._kills
        if error is not None and num_kills > 0 and node_id in (None, current_node_id()):
            processes = "a process" if num_kills == 1 else f"{num_kills} processes"
            return f"the kernel ended {processes} for lack of memory meanwhile"
        return ""
