"""Requests to the launcher of a study: to end one trial, or to exclude a value of a choice.

A command writes a request as a file into the study's folder, and the launcher that runs the study
records in the journal what follows from it. The name of a file contains the SHA-256 of its content,
and the content names the study, so that half a file or a file of another study is no request.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from raysearch.config.constraints import allowed
from raysearch.config.hyperparameter_spec import Value
from raysearch.config.json_values import parse_json
from raysearch.config.names import candidates
from raysearch.config.space import Space
from raysearch.config.space_geometry import sample_hparams
from raysearch.data.files import is_foreign, is_open_to_changes
from raysearch.errors import StudyError, UserError
from raysearch.search.journal.codec import record_from_json, record_to_json
from raysearch.search.journal.history import History, value_text
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.sampling.exclusions import remaining_space, remaining_values
from raysearch.search.study.study import Study

log = logging.getLogger(__name__)
REASON = "stopped by the user"
MAX_BYTES = 10_000
# So many random configurations are tested against the constraints beside an exclusion.
NUM_TESTED = 1000
_FILE_NAME = re.compile(r"[0-9]{20}-([0-9a-f]{64})\.json")


@dataclass(frozen=True)
class StopRequest:
    """A request to end a trial, or to exclude a value.

    Args:
        study: Identity of the study, as in its plan.
        trial: Name of the trial to end; None for an exclusion.
        hyperparameter: Name of the choice of which a value is excluded; None for a trial.
        value: That value.
    """

    study: str
    trial: str | None = None
    hyperparameter: str | None = None
    value: Value | None = None

    def __str__(self) -> str:
        if self.trial is not None:
            return f"{self.trial} is stopped"
        name, value = self.exclusion
        return f"{name}={value_text(value)} is excluded"

    @property
    def exclusion(self) -> tuple[str, Value]:
        """The choice and its excluded value; TypeError for the request to end a trial."""
        if self.hyperparameter is None or self.value is None:
            raise TypeError("a request without a value")
        return self.hyperparameter, self.value

    def is_recorded(self, history: History) -> bool:
        """Whether `history` contains what follows from the request."""
        if self.trial is None:
            return self.exclusion in history.exclusions
        trial = history.trials.get(self.trial)
        return trial is not None and trial.status not in ("running", "paused")


def trial_request(study: str, history: History, trial: str) -> StopRequest:
    """The request to end `trial`.

    Raises:
        StudyError: If there is no such trial, it is a baseline, or it has ended.
    """
    state = history.trials.get(trial)
    if state is None:
        names = [searched.id for searched in history.searched()]
        raise StudyError(f"--trial {trial}: the study has no such trial{candidates(trial, names)}")
    if state.kind != "trial":
        raise StudyError(f"--trial {trial}: a baseline; give a searched trial, such as t0000")
    if state.status not in ("running", "paused"):
        raise StudyError(
            f"--trial {trial}: it has ended already ({state.status}); give a trial that trains or"
            " is paused"
        )
    return StopRequest(study, trial=trial)


def exclusion_request(study: str, space: Space, history: History, text: str) -> StopRequest:
    """The request to exclude the value that `text`, such as `architecture=resnet18`, names.

    Raises:
        StudyError: If it names no value of a choice, the last one that remains, or if no
            configuration without it satisfies the constraints.
    """
    name, separator, shown = text.partition("=")
    if not separator:
        raise StudyError(f"--exclude {text}: give NAME=VALUE, such as architecture=resnet18")
    hyperparameter = space.hyperparameter(name)
    if hyperparameter is None or hyperparameter.kind != "choice":
        choices = [hparam.name for hparam in space.hparams if hparam.kind == "choice"]
        listed = f"its choices: {', '.join(choices)}" if choices else "it has none"
        raise StudyError(f"--exclude {text}: {name} is no choice of the study; {listed}")
    value = next((value for value in hyperparameter.values if value_text(value) == shown), None)
    if value is None:
        values = ", ".join(map(value_text, hyperparameter.values))
        raise StudyError(f"--exclude {text}: no value of {name}; its values: {values}")
    if (name, value) in history.exclusions:
        raise StudyError(f"--exclude {text}: it is excluded already")
    if remaining_values(hyperparameter, history) == (value,):
        raise StudyError(
            f"--exclude {text}: the last value of {name} that remains; end the study with"
            " `raysearch stop`"
        )
    later = History()
    later.exclusions = (*history.exclusions, (name, value))
    if not _is_satisfiable(remaining_space(space, later)):
        raise StudyError(
            f"--exclude {text}: no configuration without it satisfies the constraints; exclude"
            " another value"
        )
    return StopRequest(study, hyperparameter=name, value=value)


def write_requests(folder: StudyFolder, requests: Sequence[StopRequest]) -> list[str]:
    """Write `requests` into the folder of the study, in their order; return the files' names.

    The files are closed to other accounts, also in a shared study: see `_read`.
    """
    names = []
    for request in requests:
        content = json.dumps(record_to_json(request)).encode()
        sha256 = hashlib.sha256(content).hexdigest()
        names.append(f"{folder.REQUESTS}/{time.time_ns():020d}-{sha256}.json")
        folder.write(names[-1], content, private=True)
    return names


def apply_requests(study: Study) -> list[str]:
    """Record what follows from the requests in the study's folder, and remove them.

    Returns:
        The trials that ended by them.
    """
    folder = study.folder
    names = folder.names(folder.REQUESTS)
    if not names:
        return []
    unfinished = {trial.id for trial in (*study.history.running(), *study.history.paused())}
    for name in names:
        for request in _read(folder, f"{folder.REQUESTS}/{name}", study.plan.identity):
            _record_possible(study, request)
        folder.remove(f"{folder.REQUESTS}/{name}")
    return [
        trial for trial in sorted(unfinished) if study.history.trials[trial].status == "stopped"
    ]


def apply_earlier_requests(study: Study) -> None:
    """Record what follows from the requests that the last launcher has not read.

    Files that cannot be read are left to the search, which tries again.
    """
    try:
        apply_requests(study)
    except (OSError, UserError) as error:
        if study.halt_reason is not None:  # the journal cannot be written
            raise
        log.warning("earlier requests of the user cannot be read: %s", error)


def record_request(study: Study, request: StopRequest) -> None:
    """Record what follows from `request`.

    Raises:
        StudyError: If it is no longer possible.
    """
    if request.trial is not None:
        trial_request(request.study, study.history, request.trial)
        study.stop_unfinished(request.trial, REASON)
        return
    name, value = request.exclusion
    text = f"{name}={value_text(value)}"
    exclusion_request(request.study, study.plan.space, study.history, text)
    study.exclude(name, value)


def _record_possible(study: Study, request: StopRequest) -> None:
    """Record what follows from `request`, unless it is no longer possible."""
    try:
        record_request(study, request)
    except StudyError as error:
        if study.halt_reason is not None:  # the journal cannot be written
            raise
        log.warning("a request was ignored: %s", error)


def _read(folder: StudyFolder, name: str, identity: str) -> Iterator[StopRequest]:
    """Yield the request in a file, if it is one of this account for the study `identity`.

    The members of a shared study can change most files of this account there, and give them other
    names. A request is therefore a file that only this account, or root, can have written.
    """
    match = _FILE_NAME.fullmatch(name.rpartition("/")[2])
    try:
        content, status = folder.read_with_status(name, MAX_BYTES, follows_links=False)
        if match is None or hashlib.sha256(content).hexdigest() != match[1]:
            raise StudyError("its SHA-256 is not the one in its name")
        if is_foreign(status):
            raise StudyError("another account wrote it")
        if is_open_to_changes(status):
            raise StudyError("other accounts can write to it")
        request = record_from_json(StopRequest, parse_json(content))
        if (request.trial is None) == (request.hyperparameter is None or request.value is None):
            raise StudyError("it names neither a trial nor a value, or both")
        if request.study != identity:
            raise StudyError("it is of another study")
    except (OSError, ValueError, UserError) as error:
        log.warning("%s is no request: %s", folder.path(name), error)
        return
    yield request


def _is_satisfiable(space: Space) -> bool:
    generator = np.random.default_rng(space.seed)
    return not space.constraints or any(
        allowed(space, sample_hparams(space, generator)) for _ in range(NUM_TESTED)
    )
