"""How far a task is, in Ray's store."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from raysearch.data.step_progress import EPOCHS, StepProgress
from raysearch.metrics.row_units import PATCHES
from raysearch.search.engine import task_progress
from raysearch.search.engine.task_progress import (
    NAMESPACE,
    SEND_INTERVAL_S,
    ProgressSender,
    read_progress,
    remove_progress,
    send_progress,
)


class KeyValueStore:
    """Ray's store of small values, in this process."""

    def __init__(self, *, is_initialized: bool = True) -> None:
        self.contents: dict[tuple[str, str], bytes] = {}
        self._is_initialized = is_initialized

    def _internal_kv_initialized(self) -> bool:
        return self._is_initialized

    def _internal_kv_put(self, key: str, content: str, namespace: str) -> None:
        self.contents[namespace, key] = content.encode()

    def _internal_kv_get(self, key: str, namespace: str) -> bytes | None:
        return self.contents.get((namespace, key))

    def _internal_kv_del(self, key: str, namespace: str) -> None:
        del self.contents[namespace, key]


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> KeyValueStore:
    store = KeyValueStore()
    monkeypatch.setattr(task_progress, "internal_kv", store)
    return store


def epochs(done: int) -> StepProgress:
    return StepProgress("training", done, 9, EPOCHS)


@pytest.mark.usefixtures("store")
def test_a_step_is_sent_at_most_once_per_interval_and_a_new_step_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    times_s = [100.0, 100.0 + SEND_INTERVAL_S / 2, 100.0 + SEND_INTERVAL_S, 100.0 + SEND_INTERVAL_S]
    clock = SimpleNamespace(monotonic=iter(times_s).__next__)
    monkeypatch.setattr(task_progress, "time", clock)
    send = ProgressSender("a task")
    scoring = StepProgress("scoring", 1, 30, PATCHES)
    seen = []
    for progress in (epochs(1), epochs(2), epochs(3), scoring):
        send(progress)
        seen.append(read_progress("a task"))
    assert seen == [epochs(1), epochs(1), epochs(3), scoring]


def test_each_task_has_its_own_progress_until_it_is_removed(store: KeyValueStore) -> None:
    send_progress("first", epochs(1))
    send_progress("second", epochs(2))
    assert (read_progress("first"), read_progress("second")) == (epochs(1), epochs(2))
    remove_progress("first")
    remove_progress("first")  # an error is logged only
    assert (read_progress("first"), read_progress("second")) == (None, epochs(2))
    store.contents[NAMESPACE, "second"] = b"{"
    assert read_progress("second") is None


def test_nothing_is_sent_outside_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    store = KeyValueStore(is_initialized=False)
    monkeypatch.setattr(task_progress, "internal_kv", store)
    send_progress("a task", epochs(1))
    assert store.contents == {}
    assert read_progress("a task") is None
