"""Keeps an Optuna journal file up to date with a study that is searched."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from optuna.exceptions import OptunaError
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import FrozenTrial

from raysearch.data.file_access import try_lock
from raysearch.errors import StudyError
from raysearch.search.journal.history import Trial
from raysearch.search.sampling.optuna_export import (
    IDENTITY,
    TRIAL,
    Attribute,
    ExportedStudy,
    export_study,
    optuna_trial,
    study_attributes,
)

# A line of the journal: what Optuna's storage has done.
Line = dict[str, Any]
# The key of a line with the time at which a trial ended.
COMPLETED = "datetime_complete"
# What Optuna raises for a file that another program wrote, or has changed.
UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, AssertionError, OptunaError)


@contextmanager
def optuna_journal(exported: ExportedStudy, path: Path) -> Iterator[OptunaJournal]:
    """Open the Optuna journal `path` of a study, and lock it; create it if it does not exist.

    Args:
        exported: The study; its history may grow.
        path: The file: new, or one that this function or `export_study` created for this study.

    Raises:
        StudyError: If the file is of another study or program, or another process keeps it up to
            date.
    """
    if not path.exists():
        export_study(exported, path)
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            raise StudyError(f"{path}: no file of this account; choose another name")
        if try_lock(descriptor) is False:
            raise StudyError(f"{path}: another command keeps it up to date; choose another name")
        yield OptunaJournal(exported, path, descriptor)
    finally:
        os.close(descriptor)


class OptunaJournal:
    """An Optuna journal of a study, to which `update` appends what has changed.

    Nothing in the file is replaced, so that `optuna-dashboard` can read it, and append notes to it,
    at the same time. What the file has already is not appended again.

    Args:
        exported: The study.
        path: The file.
        descriptor: The file, open for reading and writing.

    Raises:
        StudyError: If the file is of another study or program.
    """

    def __init__(self, exported: ExportedStudy, path: Path, descriptor: int) -> None:
        self._exported, self._path, self._descriptor = exported, path, descriptor
        self._backend = _TimedBackend(str(path.absolute()))
        try:
            self._storage = JournalStorage(self._backend)
            self._study_id = self._storage.get_study_id_from_name(exported.name)
            self._attributes = self._storage.get_study_user_attrs(self._study_id)
            trials = self._storage.get_all_trials(self._study_id)
        except UNREADABLE:
            raise self._foreign_file() from None
        if self._attributes.get(IDENTITY) != exported.identity:
            raise self._foreign_file()
        # By their names in the study; a user of the dashboard may have added trials without one.
        self._trials = {str(trial.user_attrs.get(TRIAL)): self._stored(trial) for trial in trials}
        self._backend.remove_partial_line(descriptor)

    def update(self) -> None:
        """Append what the study's history has and the file does not.

        Raises:
            StudyError: If the file was removed, or changed by another program.
        """
        # Optuna appends to the path: it must still be the file that was checked.
        if not self._path.exists() or not os.path.samestat(
            os.fstat(self._descriptor), os.lstat(self._path)
        ):
            raise StudyError(
                f"{self._path}: the file was removed or replaced; run the command again"
            )
        try:
            for name, value in study_attributes(self._exported).items():
                if name not in self._attributes or self._attributes[name] != value:
                    self._storage.set_study_user_attr(self._study_id, name, value)
                    self._attributes[name] = value
            for trial in self._exported.history.searched():
                self._update_trial(trial)
        except UNREADABLE as error:
            raise StudyError(
                f"{self._path}: another program has changed the study in it ({error}); remove the"
                " file, and run the command again"
            ) from None

    def _update_trial(self, trial: Trial) -> None:
        stored = self._trials.get(trial.id)
        if stored is not None and stored.is_finished:
            return
        shown = optuna_trial(self._exported.space, trial)
        if stored is None:
            trial_id = self._storage.create_new_trial(self._study_id, template_trial=shown)
        else:
            trial_id = stored.trial_id
            self._append_changes(stored, shown)
        self._trials[trial.id] = _StoredTrial.of(trial_id, shown)

    def _append_changes(self, stored: _StoredTrial, shown: FrozenTrial) -> None:
        """Append the differences of a trial that was running; Optuna accepts none afterwards."""
        trial_id = stored.trial_id
        for step, value in shown.intermediate_values.items():
            if stored.intermediate_values.get(step) != value:
                self._storage.set_trial_intermediate_value(trial_id, step, value)
        for name, attribute in shown.user_attrs.items():
            if name not in stored.attributes or stored.attributes[name] != attribute:
                self._storage.set_trial_user_attr(trial_id, name, attribute)
        if shown.state.is_finished():
            with self._backend.completed_at(shown.datetime_complete):
                self._storage.set_trial_state_values(trial_id, shown.state, shown.values)

    def _stored(self, trial: FrozenTrial) -> _StoredTrial:
        trial_id = self._storage.get_trial_id_from_study_id_trial_number(
            self._study_id, trial.number
        )
        return _StoredTrial.of(trial_id, trial)

    def _foreign_file(self) -> StudyError:
        return StudyError(
            f"{self._path}: no Optuna journal of this study {self._exported.name!r}; choose another"
            " name, or remove the file"
        )


@dataclass(frozen=True)
class _StoredTrial:
    """A trial as the file has it.

    Args:
        trial_id: Optuna's number of the trial in the file.
        is_finished: Whether it has ended.
        intermediate_values: Its objective after each fold-epoch.
        attributes: Its attributes.
    """

    trial_id: int
    is_finished: bool
    intermediate_values: Mapping[int, float]
    attributes: Mapping[str, Attribute]

    @staticmethod
    def of(trial_id: int, trial: FrozenTrial) -> _StoredTrial:
        """Return what is compared with a later state of the trial."""
        is_finished = trial.state.is_finished()
        return _StoredTrial(trial_id, is_finished, trial.intermediate_values, trial.user_attrs)


class _TimedBackend(JournalFileBackend):
    """A file in which a trial is completed when it ended, not when that is written.

    Args:
        path: The absolute path: the lock of a killed process is a link to it, and counts as held if
            the link is broken.
    """

    def __init__(self, path: str) -> None:
        self._file_lock = JournalFileSymlinkLock(path)
        super().__init__(path, self._file_lock)
        self._completed = ""

    def remove_partial_line(self, descriptor: int) -> None:
        """Remove what a process that was killed while it wrote has left at the end of the file.

        No process writes meanwhile.
        """
        self._file_lock.acquire()
        try:
            content = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
            os.ftruncate(descriptor, content.rfind(b"\n") + 1)
        finally:
            self._file_lock.release()

    @contextmanager
    def completed_at(self, time: datetime | None) -> Iterator[None]:
        """Store the local `time` as the end of the trials that end in the `with` block."""
        if time is not None:
            self._completed = time.astimezone(UTC).isoformat(timespec="microseconds")
        try:
            yield
        finally:
            self._completed = ""

    def append_logs(self, logs: list[Line]) -> None:
        """Append a line for each of `logs`."""
        if self._completed:
            logs = [log | {COMPLETED: self._completed} if COMPLETED in log else log for log in logs]
        super().append_logs(logs)
