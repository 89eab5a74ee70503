"""The champion's folds trained again with fresh seeds, as many at once as the cluster holds."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from raysearch.errors import UserError
from raysearch.search.engine.nodes import slots_of
from raysearch.search.engine.session import (
    MAX_WORKER_LOSSES,
    ActorTask,
    WorkerLostError,
    ask_for_machines,
    available_nodes,
    ended,
    nodes_for,
)
from raysearch.search.engine.tune_adapters import job_of
from raysearch.search.engine.worker_tasks import Job, fold_job
from raysearch.search.journal.history import Trial
from raysearch.search.study.repeats import FoldRepeat, Repetitions, missing_folds
from raysearch.search.study.study import Study
from raysearch.training.failures import TrainingFailedError

log = logging.getLogger(__name__)
# After this a machine that has come meanwhile gets a fold, too.
LOOK_AGAIN_S = 2.0
Progress = Callable[[int, int], None]


def train_repeats(
    study: Study,
    trial: Trial,
    seeds: Sequence[int],
    progress: Progress = lambda _done, _all: None,
    *,
    nets: bool,
) -> None:
    """Train the folds of `trial` with each of `seeds`, where they are not there already.

    Their scores are kept, and where asked the `nets`. A seed with which a fold fails is written
    down in the study's journal, and left. `progress` hears how many folds are done, of how many.
    WorkerLostError where a fold loses its worker, or finds its machine unable, too often.
    """
    wanted = [one for one in seeds if (trial.id, one) not in study.history.repeat_failures]
    missing = missing_folds(study.folder, study.plan, trial, wanted, nets=nets)
    if missing:
        every = len(wanted) * trial.folds
        _Again(study, trial, Repetitions(missing), nets).run(
            lambda left: progress(every - left, every)
        )


class _Again:
    """The errands under way for one trial."""

    def __init__(self, study: Study, trial: Trial, ahead: Repetitions, nets: bool) -> None:
        self._study, self._trial, self._ahead, self._nets = study, trial, ahead, nets
        self._resources = study.plan.space.resources
        self._busy: dict[ActorTask, FoldRepeat] = {}

    def run(self, progress: Callable[[int], None]) -> None:
        """Train all of them; `progress` hears how many are left, whenever that is fewer."""
        ask_for_machines(self._resources, self._ahead.waiting)
        left = None
        while self._ahead.waiting or self._busy:
            self._begin()
            if left != (left := self._ahead.waiting + len(self._busy)):
                progress(left)
            for task in ended(self._busy, LOOK_AGAIN_S):
                self._take(task, self._busy.pop(task))

    def _begin(self) -> None:
        """Begin folds wherever there is room."""
        nodes = available_nodes(self._resources) if self._busy else nodes_for(self._resources)
        taken = Counter(one.node for one in self._busy)
        for node in nodes:
            for _slot in range(slots_of(node, self._resources) - taken[node["NodeID"]]):
                if (one := self._ahead.next()) is None:
                    return
                task = ActorTask(node["NodeID"], self._resources, fold_job, *self._job(one))
                self._busy[task] = one

    def _take(self, task: ActorTask, one: FoldRepeat) -> None:
        """See how `one` ended, and let the same process go on with the next."""
        try:
            task.result()
        except (WorkerLostError, UserError, OSError) as error:
            if self._ahead.lost(one) > MAX_WORKER_LOSSES:
                raise WorkerLostError(
                    f"fold {one.fold} of {self._trial.id} could not be trained with a fresh seed"
                    f" ({error}); mend it, and go on with --resume"
                ) from None
            log.warning("fold %d of %s is begun again: %s", one.fold, self._trial.id, error)
            task.end()
            return
        except TrainingFailedError as failure:
            self._give_up(one, failure)
        staying = {node["NodeID"] for node in available_nodes(self._resources)}
        if task.node in staying and (following := self._ahead.next()) is not None:
            task.then(fold_job, *self._job(following))
            self._busy[task] = following

    def _give_up(self, one: FoldRepeat, failure: TrainingFailedError) -> None:
        log.warning("%s failed with the seed %d: %s", self._trial.id, one.seed, failure)
        self._study.record_repeat_failure(self._trial, one.seed, str(failure))
        self._ahead.failed(one.seed)
        for other in [task for task, it in self._busy.items() if it.seed == one.seed]:
            del self._busy[other]
            other.end()

    def _job(self, one: FoldRepeat) -> tuple[Job, int, bool]:
        return replace(job_of(self._study, self._trial), seed=one.seed), one.fold, self._nets
