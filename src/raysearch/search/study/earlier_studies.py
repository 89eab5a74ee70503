"""Finds the earlier studies that a new one learns from, and stores their trials in its folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from functools import cached_property

from raysearch.config.hyperparameter_spec import Value
from raysearch.config.json_values import parse_json
from raysearch.config.names import FULL, NAME, NO_MEMORY, OWN_STUDIES
from raysearch.config.space import Space
from raysearch.data.files import Folder
from raysearch.data.shards.rows import View
from raysearch.data.shards.shard_manifest import read_manifest
from raysearch.data.splits.folds import groups_of
from raysearch.errors import StudyError, UserError, shortened
from raysearch.search.journal.codec import record_from_json, record_to_json
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.launcher_lock import running_launcher
from raysearch.search.study.plan import Memory, MemorySource, OmittedStudy, Plan, Splits
from raysearch.search.study.stored_study import (
    load_study,
    read_splits,
    study_names,
)
from raysearch.search.transfer.shipped_studies import ShippedStudy, shipped_studies
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
PATIENT, ADAPTATION = "patient", "adaptation"
Sources = tuple[SourceStudy, ...]


@dataclass(frozen=True)
class NewStudy:
    """What the choice of earlier studies depends on.

    Attributes:
        space: The search space; its `memory` names the folder.
        view: The rows of the study, without its held-out test set.
        groups: The patients, or other groups, of these rows.
        has_pseudonyms: Whether the names of patients are pseudonyms.
    """

    space: Space
    view: View
    groups: frozenset[str] = frozenset()
    has_pseudonyms: bool = False

    @cached_property
    def shipped(self) -> dict[str, tuple[SourceStudy, int] | str]:
        """The trials and shared patients of each shipped study, or why it is no source."""
        return {study.name: _shipped_source(self, study) for study in shipped_studies()}


def new_study(plan: Plan, splits: Splits) -> NewStudy:
    """Return what the choice of earlier studies for `plan` depends on."""
    has_pseudonyms = bool(read_manifest(Folder(plan.data)).pseudonyms)
    return NewStudy(plan.space, plan.view, frozenset(groups_of(splits)), has_pseudonyms)


def find_memory(study: NewStudy, studies: str) -> tuple[Memory, bytes]:
    """Find the earlier studies that a new study learns from; another sampler than `forest`, none.

    A study that trained or validated on patients of the held-out test set, or may have, is omitted:
    its results depend on them, and the test would no longer be independent. The studies of public
    samples that the product comes with are sources, too.

    Args:
        study: The new study.
        studies: The folder of its own studies.

    Returns:
        The earlier studies, and the content of the file with their trials.

    Raises:
        StudyError: If the folder that `memory` names does not exist.
    """
    space = study.space
    if space.memory == NO_MEMORY:
        return Memory(), b""
    folder = Folder(studies if space.memory == OWN_STUDIES else space.memory)
    if space.memory != OWN_STUDIES and not folder.exists():
        raise StudyError(
            f"memory {space.memory}: no such folder; give the folder of earlier studies, or none"
        )
    if space.sampler.name != "forest":
        return Memory(), b""
    chosen = _Chosen()
    for name in _newest(folder.address):
        chosen.add(name, _source(study, StudyFolder(f"{folder.address}/{name}")))
    for shipped in shipped_studies():
        if _is_similar(space, shipped):
            chosen.add(shipped.name, study.shipped[shipped.name])
    return chosen.memory()


class _Chosen:
    """The sources and the omitted studies so far."""

    def __init__(self) -> None:
        self._sources: list[SourceStudy] = []
        self._used: list[MemorySource] = []
        self._omitted: list[OmittedStudy] = []

    def add(self, name: str, source: tuple[SourceStudy, int] | str) -> None:
        """Add a source with its number of shared patients, or the reason why it is none."""
        if isinstance(source, str):
            self._omitted.append(OmittedStudy(name, source))
            return
        trials, num_shared = source
        self._sources.append(replace(trials, name=name))
        self._used.append(MemorySource(name, len(trials.trials), num_shared))

    def memory(self) -> tuple[Memory, bytes]:
        """The memory of the plan, and the content of its file."""
        if not self._sources:
            return Memory(omitted=tuple(self._omitted)), b""
        content = json.dumps(record_to_json(self._sources), separators=(",", ":")).encode()
        digest = hashlib.sha256(content).hexdigest()
        return Memory(tuple(self._used), tuple(self._omitted), digest), content


def _newest(studies: str) -> list[str]:
    """The names of the newest studies in the folder `studies`, in the order of the alphabet."""
    return sorted([name for name in study_names(studies) if NAME.fullmatch(name)][-MAX_STUDIES:])


def _source(new: NewStudy, folder: StudyFolder) -> tuple[SourceStudy, int] | str:
    """The trials of the study in `folder` and its shared patients, or why it is no source."""
    try:
        if running_launcher(folder) is not None:
            return "it is running"
        study = load_study(folder)
        space = study.plan.space
        searched = [hparam.name for hparam in space.searched_hparams()]
        adaptations = space.values_of(ADAPTATION)
        reason = _omission(new.space, (space.metric, space.mode), searched, adaptations)
        groups = set() if reason else groups_of(read_splits(folder, study.plan))
        reason = reason or _leak(new, groups, study.plan)
        if reason:
            return reason
        source = source_study(folder.name, space, study.history)
    except (UserError, OSError) as error:
        return shortened(str(error), MAX_REASON)
    except (ValueError, OverflowError):  # of absurd numbers in a forged journal
        return "its trials have numbers that no trial has"
    return _usefulness_error(source) or (source, len(groups & new.groups))


def _usefulness_error(source: SourceStudy) -> str:
    """Why nothing can be learned from the trials of a study; empty if something can."""
    num_trials = len(source.trials)
    if num_trials < MIN_TRIALS:
        return f"{num_trials} trials with an objective, of which {MIN_TRIALS} are needed"
    return "" if has_pattern(source) else "its results do not depend on its hyperparameters"


def _omission(
    space: Space,
    objective: tuple[str, str],
    searched: Collection[str],
    adaptations: Collection[Value],
) -> str:
    """Why a study is no source for `space`, by its objective and its hyperparameters.

    A learning rate of heads on frozen features says nothing about that of whole networks.

    Args:
        space: The space of the new study.
        objective: The metric and the mode of the earlier study.
        searched: The names of its hyperparameters that vary.
        adaptations: Its values of the hyperparameter `adaptation`.
    """
    if objective != (space.metric, space.mode):
        return f"another objective: {', '.join(objective)}"
    if set(space.values_of(ADAPTATION)).isdisjoint(adaptations):
        return f"another adaptation: {', '.join(map(str, adaptations))}"
    if {hparam.name for hparam in space.searched_hparams()}.isdisjoint(searched):
        return "no searched hyperparameter in common"
    return ""


def _is_similar(space: Space, shipped: ShippedStudy) -> bool:
    """Whether at least half of the searched hyperparameters of `space` are those of `shipped`."""
    searched = {hparam.name for hparam in space.searched_hparams()}
    source = shipped.source
    adaptations = {trial.hparams.get(ADAPTATION, FULL) for trial in source.trials}
    objective = (source.metric, source.mode)
    is_other = _omission(space, objective, shipped.searched, adaptations)
    return not is_other and 2 * len(searched & set(shipped.searched)) >= len(searched)


def _shipped_source(new: NewStudy, shipped: ShippedStudy) -> tuple[SourceStudy, int] | str:
    """The trials of a study of a public sample and its shared patients, or why it is no source."""
    if new.view.held_out and new.has_pseudonyms:
        return "its patients cannot be compared with the held-out pseudonyms"
    if new.view.held_out and new.view.by != PATIENT:
        return f"its patients cannot be compared with a held-out {new.view.by}"
    if new.view.held_out and not shipped.has_patients:
        return "its patients are unknown, so held-out ones may be among them"
    num_held_out = shipped.num_shared(new.view.held_out)
    if num_held_out:
        return f"it trained on {num_held_out:,} of the held-out patients"
    return shipped.source, shipped.num_shared(new.groups)


def _leak(new: NewStudy, groups: AbstractSet[str], plan: Plan) -> str:
    """Why the results of a study may depend on the held-out patients of another; empty if not.

    A study that holds out the same patients has kept them from its auxiliary shards and from its
    own memory, too.

    Args:
        new: The new study.
        groups: The groups that the earlier study trained or validated on.
        plan: The plan of the earlier study.
    """
    held_out, is_same = set(new.view.held_out), plan.view.by == new.view.by
    if not held_out or (is_same and held_out <= set(plan.view.held_out)):
        return ""
    if not is_same:
        return f"its groups are by {plan.view.by}, so held-out patients may be among them"
    if trained_on := groups & held_out:
        return f"it trained on {len(trained_on):,} of the held-out patients"
    if plan.auxiliary:
        return "its auxiliary shards may have held-out patients"
    if _may_depend_on_held_out(new, plan):
        return "it learned from studies that may have trained on held-out patients"
    return ""


def _may_depend_on_held_out(new: NewStudy, plan: Plan) -> bool:
    """Whether a source of `plan` may have trained on patients that are now held out."""
    names = [source.name for source in plan.memory.sources]
    return any(isinstance(new.shipped.get(name, "a study of a user"), str) for name in names)


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
