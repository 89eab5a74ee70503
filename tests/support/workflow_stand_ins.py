"""Stand-ins of the workflow's listener, and of its sessions of Ray and MLflow, for tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from raysearch.data.step_progress import StepProgress
from raysearch.search.study.study import Study


class NoListener:
    """Follows nothing."""

    def on_status(self, _text: str) -> None:
        pass

    def on_progress(self, _progress: StepProgress) -> None:
        pass

    def on_study(self, _study: Study) -> None:
        pass


@contextmanager
def no_session(*_arguments: object, **_options: object) -> Iterator[object]:
    """Start nothing."""
    yield lambda: None
