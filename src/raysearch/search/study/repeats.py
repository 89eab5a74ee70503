"""The champion's folds trained again with fresh seeds: which are missing, and what is done next."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count, islice

from raysearch.search.journal.history import Trial
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.fold_scores import out_of_fold_again
from raysearch.search.study.plan import Plan
from raysearch.training.checkpoint import unpack
from raysearch.training.seeds import key


def repeats(seed: int, trial: Trial, number: int) -> list[int]:
    """The first `number` fresh seeds of `trial` in a study of `seed`; its own is none of them."""
    every = (key(seed, trial.id, "again", repetition) for repetition in count(1))
    return list(islice((one for one in every if one != trial.seed), number))


@dataclass(frozen=True)
class FoldRepeat:
    """A fold to be trained with a fresh seed."""

    seed: int
    fold: int


def missing_folds(
    folder: StudyFolder, plan: Plan, trial: Trial, seeds: Iterable[int], *, nets: bool
) -> list[FoldRepeat]:
    """The folds of `trial` with each of `seeds` of which no whole scores, or `nets`, are stored."""
    return [
        FoldRepeat(seed, fold)
        for seed in seeds
        for fold in range(trial.folds)
        if not _is_whole(folder, plan, trial, FoldRepeat(seed, fold), nets)
    ]


def _is_whole(folder: StudyFolder, plan: Plan, trial: Trial, one: FoldRepeat, nets: bool) -> bool:
    # A net is written before its scores: without these there is no need to read it.
    if out_of_fold_again(folder, plan, trial.id, one.seed, [one.fold]) is None:
        return False
    if not nets:
        return True
    try:
        unpack(folder.read(folder.again_net(trial.id, one.seed, one.fold)))
    except (FileNotFoundError, ValueError):
        return False
    return True


class Repetitions:
    """Which fold is trained next, after those that ended, failed or were lost with their worker."""

    def __init__(self, missing: Sequence[FoldRepeat]) -> None:
        self._waiting = deque(missing)
        self._losses: Counter[FoldRepeat] = Counter()

    @property
    def waiting(self) -> int:
        """How many folds are still to be begun."""
        return len(self._waiting)

    def next(self) -> FoldRepeat | None:
        """The fold to begin now; None where none waits."""
        return self._waiting.popleft() if self._waiting else None

    def lost(self, one: FoldRepeat) -> int:
        """Let a fold whose worker was lost be begun again; how often it was lost."""
        self._waiting.appendleft(one)
        self._losses[one] += 1
        return self._losses[one]

    def failed(self, seed: int) -> None:
        """Begin no more folds of a seed with which the training failed: it has no use without."""
        self._waiting = deque(one for one in self._waiting if one.seed != seed)
