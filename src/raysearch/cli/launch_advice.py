"""What the user does after a launch that did not reach its end: resume, or launch again."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from raysearch.cli.options import STATE_SAVED
from raysearch.cli.supervisor import SUPERVISOR
from raysearch.data.step_progress import StepProgress
from raysearch.errors import StorageError
from raysearch.search.journal.study_folder import StudyFolder

if TYPE_CHECKING:
    from raysearch.search.study.study import Study
    from raysearch.workflow import StudyListener

NOT_STORED = "nothing is stored yet; run the same command again"


class LaunchAdvice:
    """Follows a launch to know whether its study is stored, so that it can be resumed.

    The parent process gets the advice as soon as it changes, in case this process cannot print it.

    Args:
        folder: Folder of the study.
        resume: The command that resumes the study.
        listener: Shows the progress of the study.
    """

    def __init__(self, folder: StudyFolder, resume: str, listener: StudyListener) -> None:
        self._folder, self._resume, self._listener = folder, resume, listener
        self._is_stored = False
        self._look_for_study()
        if not self._is_stored:
            SUPERVISOR.report_advice(NOT_STORED)

    def on_status(self, text: str) -> None:
        """Called with what the launcher is doing, in a few words."""
        self._look_for_study()
        self._listener.on_status(text)

    def on_progress(self, progress: StepProgress) -> None:
        """Called with how far the current step is."""
        self._listener.on_progress(progress)

    def on_study(self, study: Study) -> None:
        """Called when the study is open and its search is about to start."""
        self._listener.on_study(study)

    def text(self) -> str:
        """Return what is saved, and what the user does."""
        self._look_for_study()
        return f"{STATE_SAVED}. Resume with: {self._resume}" if self._is_stored else NOT_STORED

    def _look_for_study(self) -> None:
        if self._is_stored:
            return
        with suppress(StorageError):  # the store cannot be reached at the moment
            self._is_stored = self._folder.exists(self._folder.PLAN)
        if self._is_stored:
            SUPERVISOR.report_advice(f"what was reported is saved. Resume with: {self._resume}")
