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
from raysearch.search.study.stored_study import (
    StudySnapshot,
    load_study,
    read_splits,
    study_names,
)
from raysearch.search.transfer.source_models import has_pattern
from raysearch.search.transfer.source_study import (
    SourceStudy,
    has_usable_numbers,
    source_study,
)
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

    A study that trained or validated on patients of the held-out test set, or may have, is omitted:
    its results depend on them, and the test would no longer be independent.

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
    for name in _newest(folder.address):
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


def _newest(studies: str) -> list[str]:
    """The names of the newest studies in the folder `studies`, in the order of the alphabet."""
    return sorted([name for name in study_names(studies) if NAME.fullmatch(name)][-MAX_STUDIES:])


def _source(space: Space, view: View, folder: StudyFolder) -> SourceStudy | str:
    """The trials of the study in `folder`, or why it is no source."""
    try:
        if running_launcher(folder) is not None:
            return "it is running"
        study = load_study(folder)
        reason = _omission(space, study) or _leak(view, folder, study.plan)
        if reason:
            return reason
        source = source_study(folder.name, study.plan.space, study.history)
    except (UserError, OSError) as error:
        return shortened(str(error), MAX_REASON)
    except (ValueError, OverflowError):  # of absurd numbers in a forged journal
        return "its trials have numbers that no trial has"
    num_trials = len(source.trials)
    if num_trials < MIN_TRIALS:
        return f"{num_trials} trials with an objective, of which {MIN_TRIALS} are needed"
    return source if has_pattern(source) else "its results do not depend on its hyperparameters"


def _omission(space: Space, study: StudySnapshot) -> str:
    """Why a study is no source for `space`, by its space and its trials; empty if it is one."""
    earlier = study.plan.space
    if (earlier.metric, earlier.mode) != (space.metric, space.mode):
        return f"another objective: {earlier.metric}, {earlier.mode}"
    searched = {hparam.name for hparam in space.searched_hparams()}
    if searched.isdisjoint(hparam.name for hparam in earlier.searched_hparams()):
        return "no searched hyperparameter in common"
    return ""


def _leak(view: View, folder: StudyFolder, plan: Plan) -> str:
    """Why the results of a study may depend on the held-out patients of `view`; empty if not.

    A study that holds out the same patients has kept them from its auxiliary shards and from its
    own memory, too.
    """
    held_out, is_same = set(view.held_out), plan.view.by == view.by
    if not held_out or (is_same and held_out <= set(plan.view.held_out)):
        return ""
    if not is_same:
        return f"its groups are by {plan.view.by}, so held-out patients may be among them"
    trained_on = _groups(folder, plan) & held_out
    if trained_on:
        return f"it trained on {len(trained_on):,} of the held-out patients"
    if plan.auxiliary:
        return "its auxiliary shards may have held-out patients"
    if plan.memory.sources:
        return "it learned from studies that may have trained on held-out patients"
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
        if not _is_valid(sources):
            raise ValueError("forged")
    except (OSError, ValueError, StudyError):
        raise StudyError(
            f"{folder.path(folder.MEMORY)}: missing, or not the trials of the plan; restore it"
            " from a copy or start a new study"
        ) from None
    return StudyMemory(plan.space, sources)


def _is_valid(sources: Sources) -> bool:
    """Whether sources are such as `find_memory` stores."""
    return all(
        source.trials and all(trial.curve and has_usable_numbers(trial) for trial in source.trials)
        for source in sources
    )
