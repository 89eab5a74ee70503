"""Ends single trials of a study, and excludes values of a choice from it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from raysearch.cli.local_study import POLL_S
from raysearch.errors import StudyError, first_line
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.launcher_lock import launcher_lock, running_launcher
from raysearch.search.study.stop_requests import (
    StopRequest,
    apply_earlier_requests,
    exclusion_request,
    record_request,
    trial_request,
    write_requests,
)
from raysearch.search.study.stored_study import StudySnapshot, load_study
from raysearch.search.study.study import Study
from raysearch.search.study.study_command import study_command

# A launcher reads requests every second, every ten seconds of an object store, while it searches.
ANSWER_TIMEOUT_S = 30.0
TRACKING_TIMEOUT_S = 15.0


@dataclass(frozen=True)
class RequestedStops:
    """What `raysearch stop` ends of a study.

    Args:
        trials: The names of the trials to end.
        exclusions: The values to exclude, each as NAME=VALUE.
    """

    trials: Sequence[str]
    exclusions: Sequence[str]

    def requests(self, study: StudySnapshot) -> list[StopRequest]:
        """Return the requests; StudyError if one of them is not possible."""
        identity, space, history = study.plan.identity, study.plan.space, study.history
        stops = [trial_request(identity, history, trial) for trial in dict.fromkeys(self.trials)]
        for text in dict.fromkeys(self.exclusions):
            stops.append(exclusion_request(identity, space, history, text))
            # The next one must not exclude the last value that remains.
            history.exclusions += (stops[-1].exclusion,)
        return stops

    def arguments(self) -> list[str]:
        """Return the options of `raysearch stop`."""
        options = [("--trial", trial) for trial in self.trials]
        options += [("--exclude", text) for text in self.exclusions]
        return [word for option in options for word in option]


def stop_in_study(folder: StudyFolder, stops: RequestedStops) -> str:
    """End trials and exclude values of the study in `folder`, which may be running.

    A launcher that runs the study records it; without one, this process does.

    Returns:
        In one line, what was done.

    Raises:
        StudyError: If something is not possible, or the launcher ignores it.
    """
    if not folder.exists(folder.PLAN):
        raise StudyError(f"{folder.name} is starting and has no trials yet; try again in a minute")
    requests = stops.requests(load_study(folder))
    text = f"{folder.name}: {', '.join(map(str, requests))}"
    if running_launcher(folder) is None:
        return f"{text}{_record_here(folder, requests)}"
    files = write_requests(folder, requests)
    if _wait_for_launcher(folder, requests, files):
        return text
    if running_launcher(folder) is not None:
        return (
            f"{folder.name}: the launcher has not answered within {ANSWER_TIMEOUT_S:.0f} s; it"
            f" records the request once it searches, see `{study_command('status', folder)}`"
        )
    for name in files:
        folder.remove(name)
    still_open = [
        request for request in requests if not request.is_recorded(load_study(folder).history)
    ]
    return f"{text}{_record_here(folder, still_open)}"


def _wait_for_launcher(
    folder: StudyFolder, requests: Sequence[StopRequest], files: Sequence[str]
) -> bool:
    """Wait until the launcher has recorded `requests`; return False if it has not, or has ended.

    Raises:
        StudyError: If the launcher has removed their `files`, and has not recorded all of them.
    """
    deadline, were_removed = time.monotonic() + ANSWER_TIMEOUT_S, False
    while time.monotonic() < deadline:
        is_running = running_launcher(folder) is not None
        are_removed = not any(folder.exists(file) for file in files)
        history = load_study(folder).history
        open_requests = [request for request in requests if not request.is_recorded(history)]
        if not open_requests:
            return True
        if not is_running:
            return False
        # A launcher appends to the journal first, but a network file system may show that later.
        if were_removed:
            raise StudyError(
                f"{folder.name}: the launcher has ignored the request that"
                f" {', '.join(map(str, open_requests))}: another account than the launcher's wrote"
                " it, or it is no longer possible; the output of the launcher names the reason"
            )
        were_removed = are_removed
        time.sleep(POLL_S / 2)
    return False


def _record_here(folder: StudyFolder, requests: Sequence[StopRequest]) -> str:
    """Record `requests` without a launcher; return what the user should know, or nothing."""
    if not requests:
        return ""
    with launcher_lock(folder) as check_owner:
        plan = load_study(folder).plan
        study = Study(folder, plan, check_owner)
        study.begin()
        apply_earlier_requests(study)
        for request in requests:
            if not request.is_recorded(study.history):
                record_request(study, request)
        return _send_to_tracking_store(study)


def _send_to_tracking_store(study: Study) -> str:
    """End the MLflow runs of the trials that were stopped."""
    from raysearch.search.tracking.tracker import Tracker
    from raysearch.search.tracking.tracking_store import default_store

    try:
        status = "FINISHED" if study.ended() else "KILLED"
        tracker = Tracker(study.plan, default_store(), status)
        for event in study.journal.events:
            tracker.send(event)
        error: Exception | None = tracker.close(status, TRACKING_TIMEOUT_S)
    except StudyError as store_error:
        error = store_error
    return "" if error is None else f"; MLflow receives it with --resume ({first_line(error)})"
