"""Finds the earlier studies that a new one learns from, and stores their trials in its folder."""

from __future__ import annotations

import hashlib
import json

from raysearch.config.json_values import parse_json
from raysearch.config.names import NAME, NO_MEMORY, OWN_STUDIES
from raysearch.config.space import Space
from raysearch.data.files import Folder
from raysearch.data.shards.rows import View
from raysearch.errors import StudyError, UserError, shortened
from raysearch.search.journal.codec import record_from_json, record_to_json
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.launcher_lock import running_launcher
from raysearch.search.study.plan import Memory, MemorySource, OmittedStudy, Plan
from raysearch.search.study.stored_study import StudySnapshot, load_study, read_splits
from raysearch.search.transfer.source_study import SourceStudy, source_study
from raysearch.search.transfer.study_memory import StudyMemory

# A study with fewer trials that reported an objective says too little.
MIN_TRIALS = 8
# So many studies are read, the newest.
MAX_STUDIES = 100
MAX_MEMORY_BYTES = 256 * 2**20
MAX_REASON = 200
Sources = tuple[SourceStudy, ...]


def find_memory(space: Space, view: View, studies: str) -> tuple[Memory, bytes]:
    """Find the earlier studies that a study of `space` learns from.

    A study that trained or validated on patients of the held-out test set is omitted: its choices
    depend on them, and the test would no longer be independent.

    Args:
        space: The search space; its `memory` names the folder.
        view: The rows of the new study, without its held-out test set.
        studies: The folder of the new study's own studies.

    Returns:
        The earlier studies, and the content of the file with their trials.

    Raises:
        StudyError: If the folder that `memory` names does not exist.
    """
    if space.memory == NO_MEMORY:
        return Memory(), b""
    folder = Folder(studies if space.memory == OWN_STUDIES else space.memory)
    if space.memory != OWN_STUDIES and not folder.exists():
        raise StudyError(
            f"memory {space.memory}: no such folder; give the folder of earlier studies, or none"
        )
    sources: list[SourceStudy] = []
    omitted: list[OmittedStudy] = []
    for name in _study_names(folder):
        source = _source(space, view, StudyFolder(f"{folder.address}/{name}"))
        if isinstance(source, SourceStudy):
            sources.append(source)
        else:
            omitted.append(OmittedStudy(name, source))
    if not sources:
        return Memory(omitted=tuple(omitted)), b""
    content = json.dumps(record_to_json(sources), separators=(",", ":")).encode()
    used = tuple(MemorySource(source.name, len(source.trials)) for source in sources)
    return Memory(used, tuple(omitted), hashlib.sha256(content).hexdigest()), content


def _study_names(folder: Folder) -> list[str]:
    """The names of the newest studies in `folder`, in the order of the alphabet."""
    names = filter(NAME.fullmatch, folder.names())
    plans = {name: f"{name}/{StudyFolder.PLAN}" for name in names}
    created = {name: folder.modified(plan) for name, plan in plans.items() if folder.exists(plan)}
    newest = sorted(created, key=lambda name: (created[name], name))[-MAX_STUDIES:]
    return sorted(newest)


def _source(space: Space, view: View, folder: StudyFolder) -> SourceStudy | str:
    """The trials of the study in `folder`, or why it is no source."""
    try:
        if running_launcher(folder) is not None:
            return "it is running"
        study = load_study(folder)
        reason = _omission(space, study)
        if reason:
            return reason
        trained_on = _groups(folder, study.plan) & set(view.held_out)
    except (UserError, OSError) as error:
        return shortened(str(error), MAX_REASON)
    if trained_on and study.plan.view.by == view.by:
        return f"it trained on {len(trained_on):,} of the held-out patients"
    return source_study(folder.name, study.plan.space, study.history)


def _omission(space: Space, study: StudySnapshot) -> str:
    """Why a study is no source for `space`, by its space and its trials; empty if it is one."""
    earlier = study.plan.space
    if (earlier.metric, earlier.mode) != (space.metric, space.mode):
        return f"another objective: {earlier.metric}, {earlier.mode}"
    searched = {hparam.name for hparam in space.searched_hparams()}
    if searched.isdisjoint(hparam.name for hparam in earlier.searched_hparams()):
        return "no searched hyperparameter in common"
    num_trials = sum(trial.objective is not None for trial in study.history.searched())
    if num_trials < MIN_TRIALS:
        return f"{num_trials} trials with an objective, of which {MIN_TRIALS} are needed"
    return ""


def _groups(folder: StudyFolder, plan: Plan) -> set[str]:
    """The patients, or other groups, that a study trained or validated on."""
    return {
        group
        for folds in read_splits(folder, plan).values()
        for fold in folds
        for group in (*fold.train, *fold.validation)
    }


def read_memory(folder: StudyFolder, plan: Plan) -> StudyMemory | None:
    """Return the models of the earlier studies of the study in `folder`; None without any.

    Raises:
        StudyError: If the file of their trials is missing or is not that of the plan.
    """
    if not plan.memory.sha256:
        return None
    try:
        content = folder.read(folder.MEMORY, MAX_MEMORY_BYTES)
        if hashlib.sha256(content).hexdigest() != plan.memory.sha256:
            raise ValueError("another hash")
        sources = record_from_json(Sources, parse_json(content))
    except (OSError, ValueError, StudyError):
        raise StudyError(
            f"{folder.path(folder.MEMORY)}: missing, or not the trials of the plan; restore it"
            " from a copy or start a new study"
        ) from None
    return StudyMemory(plan.space, sources)
