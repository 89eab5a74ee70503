"""Reads a stored study without taking part in it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from raysearch.data.splits.folds import Fold, split_hash
from raysearch.errors import StudyError
from raysearch.search.journal.codec import record_from_json, record_to_json
from raysearch.search.journal.events import Event
from raysearch.search.journal.history import History
from raysearch.search.journal.journal import Journal
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.plan import Plan, Splits, load_plan


@dataclass(frozen=True)
class StudySnapshot:
    """The state of a study at the moment at which its journal was read.

    Args:
        plan: What the study does.
        events: The events of its journal, in order.
        history: Its trials and champion after these events.
    """

    plan: Plan
    events: Sequence[Event]
    history: History


def load_study(folder: StudyFolder) -> StudySnapshot:
    """Read the study in `folder`.

    Raises:
        StudyError: If there is none, or a file is damaged.
    """
    plan = read_plan(folder)
    events = tuple(Journal(folder / folder.JOURNAL).events)
    return StudySnapshot(plan, events, History(events))


def read_plan(folder: StudyFolder) -> Plan:
    """Read the plan of the study in `folder`.

    Raises:
        StudyError: If there is none, or it is damaged or of another format.
    """
    if not folder.exists(folder.PLAN):
        raise StudyError(
            f"no study {folder.name!r} in {folder.address}; `raysearch studies` lists them"
        )
    try:
        return load_plan(folder.read(folder.PLAN))
    except StudyError as error:
        raise StudyError(f"{folder.path(folder.PLAN)}: {error}") from None


def write_splits(folder: StudyFolder, splits: Splits) -> None:
    """Write the folds of a new study, by their number."""
    folder.write(folder.SPLITS, json.dumps(record_to_json(splits)).encode())


def read_splits(folder: StudyFolder, plan: Plan) -> Splits:
    """Read the folds of the study in `folder`, by their number.

    Raises:
        StudyError: If they are not those of `plan`.
    """
    try:
        content = json.loads(folder.read(folder.SPLITS))
        splits = record_from_json(dict[int, tuple[Fold, ...]], content)
        matches = all(split_hash(splits[split.folds]) == split.hash for split in plan.splits)
    except (OSError, ValueError, KeyError, StudyError):
        matches = False
    if not matches:
        raise StudyError(
            f"{folder.path(folder.SPLITS)}: missing, or its folds are not those of the plan;"
            " restore it from a copy or start a new study"
        )
    return splits
