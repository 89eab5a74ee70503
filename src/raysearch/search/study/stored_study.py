"""Reads a stored study without taking part in it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from raysearch.config.addresses import reject_foreign_address
from raysearch.config.json_values import parse_json
from raysearch.data.files import Folder, is_foreign
from raysearch.data.splits.folds import Fold, split_hash
from raysearch.errors import StudyError
from raysearch.search.journal.codec import record_from_json, record_to_json
from raysearch.search.journal.events import Event
from raysearch.search.journal.history import History
from raysearch.search.journal.journal import Journal, OlderJournalError, always_owner
from raysearch.search.journal.journal_head import head_files
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.plan import Plan, Splits, load_plan

MAX_PLAN_BYTES = 256 * 2**20
# A journal that lacks events is read again after so long.
REREAD_S = 5.0


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


def study_names(studies: str) -> list[str]:
    """Return the names of the studies in the folder `studies`, the newest last."""
    folder = Folder(studies)
    plans = {name: f"{name}/{StudyFolder.PLAN}" for name in folder.names()}
    created = {name: folder.modified(plan) for name, plan in plans.items() if folder.exists(plan)}
    return sorted(created, key=created.__getitem__)


def load_study(folder: StudyFolder, *, is_restored: bool = False) -> StudySnapshot:
    """Read the study in `folder`.

    Args:
        folder: Folder of the study.
        is_restored: Whether the user has just restored the study from a copy; it may then be older
            than this user's cache knows it.

    Raises:
        StudyError: If there is none, or a file is damaged.
    """
    plan = read_plan(folder)
    journal = open_journal(folder, plan.identity, is_restored=is_restored)
    events = tuple(journal.events)
    return StudySnapshot(plan, events, History(events))


def open_journal(
    folder: StudyFolder,
    identity: str,
    check_owner: Callable[[], None] = always_owner,
    *,
    is_restored: bool = False,
) -> Journal:
    """Open the journal of the study `identity` in `folder`.

    A network file system may show an older state for some seconds: a journal that lacks events is
    read again.

    Args:
        folder: Folder of the study.
        identity: The study's identity, as in its plan.
        check_owner: Called before each append; raises if another launcher owns the study.
        is_restored: As for `load_study`.

    Raises:
        StudyError: If the journal is damaged, of another format, or was set back.
    """
    heads = head_files(folder, identity)
    if is_restored:
        journal = Journal(folder / folder.JOURNAL, heads=heads[:1])
        for file in heads[1:]:
            file.write(journal.head)
        return journal
    try:
        return Journal(folder / folder.JOURNAL, check_owner, heads)
    except OlderJournalError:
        if not folder.is_local:  # an object store shows the last state
            raise
    time.sleep(REREAD_S)
    return Journal(folder / folder.JOURNAL, check_owner, heads)


def read_plan(folder: StudyFolder) -> Plan:
    """Read the plan of the study in `folder`.

    Raises:
        StudyError: If there is none, or it is damaged or of another format.
        DataError: If another account wrote it, and it names a remote address that is not allowed.
    """
    if not folder.exists(folder.PLAN):
        raise StudyError(
            f"no study {folder.name!r} in {folder.address.rpartition('/')[0]}; `raysearch studies`"
            " lists them"
        )
    try:
        content, status = folder.read_with_status(folder.PLAN, MAX_PLAN_BYTES)
        plan = load_plan(content)
    except StudyError as error:
        raise StudyError(f"{folder.path(folder.PLAN)}: {error}") from None
    if is_foreign(status):
        for address in (plan.data, *(auxiliary.data for auxiliary in plan.auxiliary)):
            reject_foreign_address(address, "a study of another account")
    return plan


def write_splits(folder: StudyFolder, splits: Splits) -> None:
    """Write the folds of a new study, by their number."""
    folder.write(folder.SPLITS, json.dumps(record_to_json(splits)).encode())


def read_splits(folder: StudyFolder, plan: Plan) -> Splits:
    """Read the folds of the study in `folder`, by their number.

    Raises:
        StudyError: If they are not those of `plan`.
    """
    try:
        content = parse_json(folder.read(folder.SPLITS))
        splits = record_from_json(dict[int, tuple[Fold, ...]], content)
        hashes = {split.folds: split.hash for split in plan.splits}
        matches = {folds: split_hash(split) for folds, split in splits.items()} == hashes
    except (OSError, ValueError, KeyError, StudyError):
        matches = False
    if not matches:
        raise StudyError(
            f"{folder.path(folder.SPLITS)}: missing, or its folds are not those of the plan;"
            " restore it from a copy or start a new study"
        )
    return splits
