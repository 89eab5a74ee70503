"""Repeats of the champion's cross-validation with new seeds: their seeds, and the missing folds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count, islice

from raysearch.search.journal.history import Trial
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.fold_scores import repeat_out_of_fold
from raysearch.search.study.plan import Plan
from raysearch.training.seeds import key


@dataclass(frozen=True)
class FoldRepeat:
    """A fold to train with a repeat seed."""

    seed: int
    fold: int


def repeat_seeds(seed: int, trial: Trial, num_seeds: int) -> list[int]:
    """The first `num_seeds` repeat seeds of `trial` in a study with `seed`; never its own."""
    seeds = (key(seed, trial.id, "again", number) for number in count(1))
    return list(islice((value for value in seeds if value != trial.seed), num_seeds))


def missing_folds(
    folder: StudyFolder, plan: Plan, trial: Trial, seeds: Iterable[int], *, networks: bool
) -> list[FoldRepeat]:
    """The folds of `trial` to train with each of `seeds`.

    Args:
        folder: Folder of the study.
        plan: Plan of the study.
        trial: The repeated trial.
        seeds: Its repeat seeds.
        networks: Whether the networks are needed, too, and not only the validation scores.

    Returns:
        The folds of which a needed file is missing, or is not the one that the journal names.
    """
    return [
        FoldRepeat(seed, fold)
        for seed in seeds
        for fold in range(trial.folds)
        if not _is_stored(folder, plan, trial, FoldRepeat(seed, fold), networks)
    ]


def _is_stored(
    folder: StudyFolder, plan: Plan, trial: Trial, repeat: FoldRepeat, networks: bool
) -> bool:
    if repeat_out_of_fold(folder, plan, trial, repeat.seed, [repeat.fold]) is None:
        return False
    if not networks:
        return True
    trained = trial.repeats[repeat.seed, repeat.fold]
    try:
        folder.read_verified(
            folder.repeat_network(trial.id, repeat.seed, repeat.fold), trained.network
        )
    except (OSError, ValueError):
        return False
    return True
