"""Deletes the folder of a study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from raysearch.errors import StudyError
from raysearch.search.journal.journal_head import head_files
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.launcher_lock import check_no_launcher

# What a study has in its folder.
KNOWN_NAMES = frozenset(
    (
        *(StudyFolder.PLAN, StudyFolder.SPLITS, StudyFolder.JOURNAL, StudyFolder.JOURNAL_HEAD),
        StudyFolder.MEMORY,
        *(StudyFolder.CHECKPOINTS, StudyFolder.SCORES, StudyFolder.REPEATS, StudyFolder.UNFINISHED),
        *(StudyFolder.FEATURES, StudyFolder.CHAMPION, StudyFolder.EVALUATIONS),
        *(
            StudyFolder.IMPORTANCES,
            StudyFolder.INTERVALS,
            StudyFolder.PSEUDONYM_KEY,
            StudyFolder.LOGS,
        ),
        *(StudyFolder.REQUESTS, StudyFolder.LOCK),
    )
)


@dataclass(frozen=True)
class StudyFiles:
    """The content of a study's folder.

    Attributes:
        num_files: Its files.
        num_bytes: Their size.
        unknown: The names in the folder that no study has.
    """

    num_files: int
    num_bytes: int
    unknown: Sequence[str]


def deletable_files(folder: StudyFolder) -> StudyFiles:
    """Return what the deletion of a study removes from its folder.

    A folder without a plan is that of a study whose deletion, or first launch, was interrupted.

    Raises:
        StudyError: If there is no study, it is a link or contains the working directory, or a
            launcher runs it.
    """
    names = folder.names()
    if not folder.exists(folder.PLAN) and not KNOWN_NAMES.intersection(names):
        raise StudyError(
            f"no study {folder.name!r} in {folder.address.rpartition('/')[0]}; `raysearch studies`"
            " lists them"
        )
    if folder.is_local and folder.local.is_symlink():
        raise StudyError(
            f"{folder.address}: a link to {folder.local.resolve()}; remove the link, or give the"
            " --studies of that folder"
        )
    if folder.is_local and Path.cwd().is_relative_to(folder.local.resolve()):
        raise StudyError(
            f"{folder.address}: contains the working directory, which cannot be deleted; change to"
            " another folder"
        )
    check_no_launcher(folder)
    unknown = sorted(set(names) - KNOWN_NAMES)
    return StudyFiles(len(folder.all_paths()), folder.total_bytes(), unknown)


def delete_files(folder: StudyFolder, identity: str | None) -> None:
    """Delete the folder of a study; the caller holds the launcher's lock.

    The plan is removed after the other files, so that an interrupted deletion may be repeated.

    Args:
        folder: The study's folder.
        identity: The study's identity; None if its plan cannot be read.
    """
    last = (folder.PLAN, folder.LOCK)
    for name in folder.names():
        if name not in last:
            folder.remove(name)
    if identity is not None:
        for file in head_files(folder, identity)[1:]:
            file.folder.remove(file.name)
    folder.remove(folder.PLAN)
    folder.remove()
