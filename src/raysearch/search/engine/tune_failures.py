"""Lets Tune handle every loss of a worker as the loss of its actor, and reads what it was."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.tune.experiment import Trial as TuneTrial

# Tune's own function; the search replaces it once in a process.
_ORIGINAL = RayActorManager._actor_task_failed  # noqa: SLF001 Tune has no public function for it
# What Tune writes before each failure into the file of a trial's errors.
FAILURE_HEADER = re.compile(r"^Failure # \d+ \(occurred at .*\)$", re.MULTILINE)


def handle_all_losses() -> None:
    """Let the trial of a lost worker start again, whatever Ray calls the loss.

    Tune knows RayActorError only. Another error ends the whole search there, such as the
    OutOfMemoryError of a worker that Ray's memory monitor ended, or the loss of a raylet.
    """
    RayActorManager._actor_task_failed = _actor_task_failed  # noqa: SLF001


def _actor_task_failed(manager: Any, tracked_actor_task: Any, exception: Exception) -> None:
    if isinstance(exception, RayError) and not isinstance(exception, RayActorError | RayTaskError):
        exception = RayActorError(error_msg=str(exception))
    _ORIGINAL(manager, tracked_actor_task, exception)


def last_failure(trial: TuneTrial) -> str | None:
    """Return the text of a trial's last failure; None if Tune has recorded none.

    `trial.get_error()` reads the copy in the storage, which Tune writes later, and returns the
    earlier failures, too.
    """
    if trial.error_file is None:
        return None
    try:
        content = Path(trial.error_file).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return FAILURE_HEADER.split(content)[-1].strip()
