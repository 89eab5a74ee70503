"""A whole study: probe, search, crown, with everything kept at every moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Protocol

from raysearch.champion.registration import Champion, select_and_register_champion
from raysearch.data.files import Folder
from raysearch.data.splits.split_manifest import add_split_manifest
from raysearch.reports.study_artifacts import study_files
from raysearch.search.engine.session import (
    ask_for_machines,
    cluster_address,
    keep_worker_logs,
    probe,
    ray_session,
    search,
)
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.baselines import record_majority
from raysearch.search.study.launcher_lock import launcher_lock
from raysearch.search.study.plan import NewStudyFiles, Plan
from raysearch.search.study.study import Study, create_study, read_plan
from raysearch.search.tracking.tracker import Tracker, default_store
from raysearch.selection.decision_rule import Options

# A user who pressed Ctrl-C waits no longer than this for the tracking store.
FLUSH_S = 15.0
# At the end of a study a store that is away for a moment is worth more patience.
FINISH_S = 300.0


class Watch(Protocol):
    """Who is told how a study is getting on."""

    def phase(self, text: str) -> None:
        """The study is at `text` now."""

    def study(self, study: Study) -> None:
        """The study is open, and about to search."""


@dataclass(frozen=True)
class Outcome:
    """How a study ended: its champion, the tracking store, and what was not sent there."""

    study: Study
    champion: Champion
    store: str
    unsent: Exception | None


def run_study(
    folder: StudyFolder,
    plan: Plan,
    new_study_files: NewStudyFiles | None,
    watch: Watch,
    trials: int | None = None,
) -> Outcome:
    """Run the study of `plan` in `folder` to its end; without `new_study_files`, go on with it.

    `trials` are planned from now on, where they are more than before.

    StudyError where another launcher runs it, or where it has no champion;
    InterruptedStudyError after SIGINT or SIGTERM, with everything saved.
    """
    with _alone(folder, plan, watch) as assure:
        if new_study_files is None:
            study = Study(folder, plan)
        else:
            waiting = "waiting for machines, " if cluster_address() else ""
            watch.phase(f"{waiting}choosing precisions")
            probed = probe(plan)
            if (
                new_study_files.split_manifest is not None
            ):  # before the study: none is ever without its split manifest
                name = plan.space.split or plan.space.task
                add_split_manifest(new_study_files.split_manifest, Folder(plan.data), name)
            study = create_study(folder, probed, new_study_files.splits)
        study.journal.assure = assure
        with _tracked(study, watch) as tracker:
            return _search_and_register_champion(study, tracker, watch, trials)


@contextmanager
def _alone(folder: StudyFolder, plan: Plan, watch: Watch) -> Iterator[Callable[[], None]]:
    """Ray, with nobody else at work on the study; what is given assures that it is still so."""
    with ExitStack() as stack:
        assure = stack.enter_context(launcher_lock(folder))
        watch.phase("starting Ray")
        stack.enter_context(ray_session())
        # However it ends: machines that nobody asks for any more are given back.
        stack.callback(ask_for_machines, plan.space.resources, 0)
        stack.callback(keep_worker_logs, folder)
        yield assure


@contextmanager
def _tracked(study: Study, watch: Watch, failed: str = "FAILED") -> Iterator[Tracker]:
    """The tracking store, which hears all that happened and happens; closed where that fails."""
    watch.phase("opening the tracking store")
    tracker = Tracker(study.plan, default_store())
    for event in study.journal.events:
        tracker.send(event)
    study.listeners.append(tracker.send)
    try:
        yield tracker
    except KeyboardInterrupt:
        tracker.close("KILLED", FLUSH_S)
        raise
    except BaseException:
        tracker.close(failed, FLUSH_S)
        raise


def reselect_champion(folder: StudyFolder, options: Options, watch: Watch) -> Outcome:
    """Select the champion of the study in `folder` by `options`, and let its alias follow.

    StudyError where another launcher runs the study, or no trial has finished.
    """
    plan = read_plan(folder)
    with _alone(folder, plan, watch) as assure:
        study = Study(folder, plan)
        study.journal.assure = assure
        status = "FINISHED" if study.ended() else "KILLED"
        with _tracked(study, watch, status) as tracker:
            study.begin()
            champion = select_and_register_champion(study, tracker, watch.phase, options)
            return Outcome(study, champion, tracker.store, tracker.close(status, FINISH_S))


def _search_and_register_champion(
    study: Study, tracker: Tracker, watch: Watch, trials: int | None
) -> Outcome:
    study.begin(trials)
    record_majority(study)
    watch.study(study)
    watch.phase("searching")
    search(study)
    champion = select_and_register_champion(study, tracker, watch.phase)
    watch.phase("sending the rest to MLflow")
    tracker.attach(study_files(study.plan, study.history))
    unsent = tracker.close("FINISHED", FINISH_S)
    return Outcome(study, champion, tracker.store, unsent)
