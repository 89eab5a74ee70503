"""How far the tasks of a worker pool are: workers send it to Ray's store, the launcher reads it."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ray.experimental import internal_kv

from raysearch.config.json_values import parse_json
from raysearch.data.step_progress import StepProgress
from raysearch.search.journal.codec import record_from_json, record_to_json

log = logging.getLogger(__name__)
NAMESPACE = "raysearch-progress"
# A task sends its progress at most this often, unless its step changes.
SEND_INTERVAL_S = 0.5


class ProgressSender:
    """Sends the progress of a task; called in its worker. Outside Ray, nothing is sent.

    Args:
        key: The name of the task.
    """

    def __init__(self, key: str) -> None:
        self._key = key
        self._step = ""
        self._sent_s = 0.0

    def __call__(self, progress: StepProgress) -> None:
        """Send `progress`, unless an earlier one of the step was sent a moment ago."""
        now = time.monotonic()
        if progress.step == self._step and now - self._sent_s < SEND_INTERVAL_S:
            return
        self._step, self._sent_s = progress.step, now
        send_progress(self._key, progress)


@contextmanager
def _logged_errors(key: str) -> Iterator[None]:
    """Log what fails in the body: progress is only shown, and must not end the training."""
    try:
        yield
    except Exception:
        log.debug("the progress of %s is not available", key, exc_info=True)


def send_progress(key: str, progress: StepProgress) -> None:
    """Store the progress of the task `key`; an error is logged."""
    with _logged_errors(key):
        if internal_kv._internal_kv_initialized():  # noqa: SLF001
            content = json.dumps(record_to_json(progress))
            internal_kv._internal_kv_put(key, content, namespace=NAMESPACE)  # noqa: SLF001


def read_progress(key: str) -> StepProgress | None:
    """Return what the task `key` has sent last; None if there is none, or it cannot be read."""
    with _logged_errors(key):
        if internal_kv._internal_kv_initialized():  # noqa: SLF001
            content = internal_kv._internal_kv_get(key, namespace=NAMESPACE)  # noqa: SLF001
            if content is not None:
                return record_from_json(StepProgress, parse_json(content))
    return None


def remove_progress(key: str) -> None:
    """Remove what the task `key` has sent; an error is logged."""
    with _logged_errors(key):
        if internal_kv._internal_kv_initialized():  # noqa: SLF001
            internal_kv._internal_kv_del(key, namespace=NAMESPACE)  # noqa: SLF001
