"""Where a study of this machine stands: starting, running, interrupted or ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

from raysearch.config.names import NAME
from raysearch.data.disk_errors import error_text
from raysearch.data.files import Folder
from raysearch.errors import UserError
from raysearch.search.journal.history import excluded_values, finished
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.scheduling.remaining_seconds import RemainingSeconds
from raysearch.search.study.launcher_lock import running_launcher
from raysearch.search.study.lease_lock import Holder
from raysearch.search.study.slow_hosts import SlowHost
from raysearch.search.study.stored_study import StudySnapshot, load_study

State = Literal["starting", "running", "interrupted", "ended", "unreadable"]


@dataclass(frozen=True)
class StudySummary:
    """A study as it is listed.

    Attributes:
        name: Name of the study.
        state: Whether a launcher starts or runs it; without one, whether its search has ended and
            it has its champion.
        launcher: The process that runs it and its host; empty if none does.
        trials: The searched trials by state, without the states that none has. Without a launcher,
            a trial that did not end is interrupted.
        num_started: The searched trials that have started.
        num_planned: The planned trials.
        metric: The metric of its objective.
        best: The best objective of a finished trial; None if no trial has finished.
        champion: The champion; None if none is selected yet.
        slow_hosts: The hosts of a running study whose trials take much longer than the others';
            none in a list.
        excluded: The values that the user excluded, each as NAME=VALUE.
        num_bytes: The size of its files.
        remaining: What a running study still needs, estimated; None if unknown, or in a list.
        error: Why the study cannot be read; empty if it can.
    """

    name: str
    state: State
    launcher: str = ""
    trials: Mapping[str, int] = field(default_factory=dict)
    num_started: int = 0
    num_planned: int = 0
    metric: str = ""
    best: float | None = None
    champion: str | None = None
    slow_hosts: tuple[SlowHost, ...] = ()
    excluded: tuple[str, ...] = ()
    num_bytes: int = 0
    remaining: RemainingSeconds | None = None
    error: str = ""


def starting_names(studies: str) -> list[str]:
    """Return the sorted names in the folder `studies` whose launcher has not stored a plan yet."""
    names = []
    for name in Folder(studies).names():
        folder = StudyFolder(f"{studies}/{name}")
        if not NAME.fullmatch(name) or folder.exists(folder.PLAN):
            continue
        # A lock that cannot be read belongs to no study that is known.
        with suppress(OSError):
            if running_launcher(folder) is not None:
                names.append(name)
    return names


def summary(folder: StudyFolder) -> StudySummary:
    """Return the summary of the study in `folder`, also if it cannot be read."""
    num_bytes = 0
    try:
        num_bytes = folder.total_bytes()
        return current_state(folder, num_bytes)[0]
    except (UserError, OSError) as error:
        return StudySummary(folder.name, "unreadable", num_bytes=num_bytes, error=error_text(error))


def current_state(
    folder: StudyFolder, num_bytes: int = 0
) -> tuple[StudySummary, StudySnapshot | None]:
    """Return where the study in `folder` stands.

    Args:
        folder: Folder of the study.
        num_bytes: The size of its files, for the summary.

    Returns:
        The summary, and the study; None instead while its launcher has not stored its plan.

    Raises:
        StudyError: If there is no study, or it is damaged.
        OSError: If a file cannot be read.
    """
    # The lock is read first: a study whose launcher has ended does not change any more.
    launcher = running_launcher(folder)
    if launcher and not folder.exists(folder.PLAN):
        return StudySummary(folder.name, "starting", str(launcher), num_bytes=num_bytes), None
    study = load_study(folder)
    return _summary_of(folder, study, launcher, num_bytes), study


def _summary_of(
    folder: StudyFolder, study: StudySnapshot, launcher: Holder | None, num_bytes: int
) -> StudySummary:
    plan, history = study.plan, study.history
    ranked = finished(history, plan.space.mode)
    unfinished = "running" if launcher else "interrupted"
    trials = Counter(
        unfinished if trial.status == "running" else str(trial.status)
        for trial in history.searched()
    )
    state: State = "ended" if _is_ended(folder, study) else "interrupted"
    return StudySummary(
        name=folder.name,
        state="running" if launcher else state,
        launcher=str(launcher) if launcher else "",
        trials=dict(trials),
        num_started=trials.total(),
        num_planned=history.planned(plan.space.trials),
        metric=plan.space.metric,
        best=ranked[0].final_objective if ranked else None,
        champion=history.champion,
        excluded=excluded_values(history),
        num_bytes=num_bytes,
    )


def _is_ended(folder: StudyFolder, study: StudySnapshot) -> bool:
    """Whether the study has its champion, and a resumed launch would search no further."""
    history, space = study.history, study.plan.space
    if history.champion is None or history.running() or history.paused():
        return False
    if len(history.searched()) >= history.planned(space.trials):
        return True
    # A budget or a grid ends before the planned trials; samplers take a moment to import.
    from raysearch.search.scheduling.policy import SearchPolicy
    from raysearch.search.study.earlier_studies import read_memory

    memory = read_memory(folder, study.plan)
    return SearchPolicy(space, study.events, memory=memory).next() is None


def size_text(num_bytes: int) -> str:
    """Return a size with its unit, such as `1.3 GB`."""
    size = float(num_bytes)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
