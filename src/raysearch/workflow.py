"""Runs a whole study: probe the devices, search, select and register the champion."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Protocol

from raysearch.analysis.stored_importances import write_importances
from raysearch.champion.register import Champion, select_and_register_champion
from raysearch.config.run_location import cluster_address
from raysearch.data.cache_folder import cache_folder, private_folder
from raysearch.data.disk_errors import DISK_ERRORS, disk_advice, error_text
from raysearch.data.files import Folder
from raysearch.data.splits.split_manifest import add_split_manifest
from raysearch.data.step_progress import StepProgress
from raysearch.errors import StudyError
from raysearch.reports.mlflow_summary import study_summary
from raysearch.reports.search_page import search_artifacts
from raysearch.search.engine.feature_computation import compute_features, remove_shared_features
from raysearch.search.engine.interrupts import done_at_loss
from raysearch.search.engine.nodes import request_nodes
from raysearch.search.engine.precision_probe import NUMERICS, probe_cluster
from raysearch.search.engine.ray_session import ray_session
from raysearch.search.engine.tune_search import run_search
from raysearch.search.engine.worker_logs import copy_worker_logs
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.baselines import record_majority
from raysearch.search.study.launcher_lock import launcher_lock
from raysearch.search.study.plan import Plan
from raysearch.search.study.plan_creation import NewStudyFiles
from raysearch.search.study.stop_requests import apply_earlier_requests
from raysearch.search.study.stored_study import read_plan
from raysearch.search.study.study import Study, create_study
from raysearch.search.tracking.tracker import Tracker
from raysearch.search.tracking.tracking_store import check_store, default_store
from raysearch.selection.decision_rule import SelectionOptions

# After an interrupt, the tracking store gets so many seconds for the queued events.
INTERRUPT_TIMEOUT_S = 15.0
# At the end of a study, it gets so many seconds, in case it is unreachable for a moment.
CLOSE_TIMEOUT_S = 300.0


class StudyListener(Protocol):
    """Follows the progress of a study."""

    def on_status(self, text: str) -> None:
        """Called with what the launcher is doing, in a few words; ends the progress of a step."""

    def on_progress(self, progress: StepProgress) -> None:
        """Called with how far the step that the launcher is doing is."""

    def on_study(self, study: Study) -> None:
        """Called when the study is open and its search is about to start."""


@dataclass(frozen=True)
class StudyOutcome:
    """How a study ended.

    Args:
        study: The ended study.
        champion: Its champion.
        store: Address of the tracking store.
        tracking_error: Why the tracking store did not receive all events; None if it did.
        comparison: Address of the page of the tracking server that compares the trials; empty if
            the store is no server.
    """

    study: Study
    champion: Champion
    store: str
    tracking_error: Exception | None
    comparison: str = ""


def run_study(
    folder: StudyFolder,
    plan: Plan,
    new_study_files: NewStudyFiles | None,
    listener: StudyListener,
    trials: int | None = None,
    command: str = "",
) -> StudyOutcome:
    """Run the study of `plan` in `folder` to its end.

    Args:
        folder: Folder of the study.
        plan: What the study does.
        new_study_files: What a new study stores; None to resume an existing study.
        listener: Follows the progress.
        trials: The planned number of trials from now on, if it is larger than before.
        command: The command of the launch, for its description in the tracking store.

    Raises:
        StudyError: If another launcher runs the study, or it has no champion.
        InterruptedStudyError: After SIGINT, SIGTERM or SIGHUP; the state is saved.
        RayLostError: If Ray's own processes end; the state is saved.
    """
    with _session(folder, plan, listener) as check_owner:
        if new_study_files is None:
            study = Study(folder, plan, check_owner)
        else:
            study = _create(folder, plan, new_study_files, listener, check_owner)
        with _disk_errors_advise_resume(), _tracker(study, listener, command=command) as tracker:
            return _search_and_register_champion(study, tracker, listener, trials)


def reselect_champion(
    folder: StudyFolder, options: SelectionOptions, listener: StudyListener
) -> StudyOutcome:
    """Select the champion of the study in `folder` by `options`, and move its alias.

    Raises:
        StudyError: If another launcher runs the study, or no trial has finished.
    """
    plan = read_plan(folder)
    plan.code.require(f"study {plan.name!r}")
    with _session(folder, plan, listener) as check_owner:
        study = Study(folder, plan, check_owner)
        status = "FINISHED" if study.ended() else "KILLED"
        with _tracker(study, listener, status, status) as tracker:
            study.begin()
            champion = select_and_register_champion(
                study, tracker, listener.on_status, options, listener.on_progress
            )
            _send_summary(study, tracker, champion)
            tracking_error = tracker.close(status, CLOSE_TIMEOUT_S)
            store, comparison = tracker.store, tracker.comparison
            return StudyOutcome(study, champion, store, tracking_error, comparison)


def _create(
    folder: StudyFolder,
    plan: Plan,
    new_study_files: NewStudyFiles,
    listener: StudyListener,
    check_owner: Callable[[], None],
) -> Study:
    """Create a new study, after a probe of how each architecture computes on each device."""
    waiting = "waiting for machines, " if cluster_address() else ""
    listener.on_status(f"{waiting}choosing precisions")
    probed = probe_cluster(plan, listener.on_status)
    # The split manifest is stored first, so that no study exists without its own.
    if new_study_files.split_manifest is not None:
        name = plan.space.split or plan.space.task
        add_split_manifest(new_study_files.split_manifest, Folder(plan.data), name)
    return create_study(folder, probed, new_study_files.splits, check_owner, new_study_files.memory)


def check_surroundings() -> None:
    """Check what a study requires of this machine, before Ray takes its time to start.

    Raises:
        StudyError: If the database of the tracking store cannot be used.
        DataError: If the studies run on this machine, and the cache cannot be written.
    """
    check_store(default_store())
    if cluster_address() is None:
        private_folder(cache_folder() / NUMERICS)


@contextmanager
def _disk_errors_advise_resume() -> Iterator[None]:
    """Convert an error of a disk to StudyError: the study exists, and can be resumed."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        raise StudyError(
            f"{error_text(error)}; {disk_advice(error)}, then resume with --resume"
        ) from None


@contextmanager
def _session(
    folder: StudyFolder, plan: Plan, listener: StudyListener
) -> Iterator[Callable[[], None]]:
    """Lock the study and start Ray; yields the check that this launcher owns the lock."""
    check_surroundings()
    with ExitStack() as stack:
        check_owner = stack.enter_context(launcher_lock(folder))
        listener.on_status("starting Ray")
        stack.enter_context(ray_session())
        # At any end, the machines that no launcher needs any more are released.
        stack.callback(request_nodes, plan.space.resources, 0)
        stack.callback(copy_worker_logs, folder)
        yield check_owner


@contextmanager
def _tracker(
    study: Study,
    listener: StudyListener,
    interrupt_status: str = "KILLED",
    failure_status: str = "FAILED",
    command: str = "",
) -> Iterator[Tracker]:
    """The tracking store, which receives past and further events; closed if the body fails.

    Args:
        study: The study.
        listener: Follows the progress.
        interrupt_status: The status of the parent run after an interrupt, or the loss of Ray.
        failure_status: Its status after another error.
        command: The command of the launch; empty if it is unknown.
    """
    listener.on_status("opening the tracking store")
    tracker = Tracker(study.plan, default_store(), interrupt_status, command)
    try:
        with done_at_loss(lambda: tracker.interrupt(interrupt_status, INTERRUPT_TIMEOUT_S)):
            for event in study.journal.events:
                tracker.send(event)
            study.add_listener(tracker.send)
            yield tracker
    except KeyboardInterrupt:
        tracker.interrupt(interrupt_status, INTERRUPT_TIMEOUT_S)
        raise
    except BaseException:
        tracker.close(failure_status, INTERRUPT_TIMEOUT_S)
        raise


def _search_and_register_champion(
    study: Study, tracker: Tracker, listener: StudyListener, trials: int | None
) -> StudyOutcome:
    study.begin(trials)
    apply_earlier_requests(study)
    record_majority(study)
    listener.on_study(study)
    if not study.ended():
        compute_features(study, listener.on_progress)
    remove_shared_features(study)
    listener.on_status("searching")
    run_search(study)
    champion = select_and_register_champion(
        study, tracker, listener.on_status, on_progress=listener.on_progress
    )
    listener.on_status("sending the remaining events to MLflow")
    _send_summary(study, tracker, champion)
    tracking_error = tracker.close("FINISHED", CLOSE_TIMEOUT_S)
    return StudyOutcome(study, champion, tracker.store, tracking_error, tracker.comparison)


def _send_summary(study: Study, tracker: Tracker, champion: Champion) -> None:
    """Send the description of the result, the figures and the leaderboard."""
    plan, history = study.plan, study.history
    importances = write_importances(study.folder, plan, history)
    files = search_artifacts(plan, history, importances)
    tracker.send_summary(study_summary(plan, history, champion, files))
