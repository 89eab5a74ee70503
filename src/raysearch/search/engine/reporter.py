"""What a worker tells the study of its trial: each fold-epoch, after what has to be kept of it."""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ray import tune

from raysearch.metrics.classification import score
from raysearch.search.engine.nodes import dollars_a_second, draining_nodes, this_node
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.scheduling.stopping_rules import PAUSING
from raysearch.search.study.fold_scores import out_of_fold, scores_file
from raysearch.search.study.plan import Plan
from raysearch.training.checkpoint import pack
from raysearch.training.cost_measurement import peak_memory
from raysearch.training.fold_training import Judged, State
from raysearch.training.loop import FoldEpoch
from raysearch.training.training_data import TrainingData

log = logging.getLogger(__name__)
# A checkpoint more often than this would cost short trials more than it saves.
CHECKPOINT_EVERY_S = 10.0
LEAVING_EVERY_S = 2.0


@dataclass
class Reporter:
    """Takes each fold-epoch of `trial`: scores at rungs, a checkpoint, then the report.

    `costs` are told with the first; `micro_batch` is the rows of one where memory is short.
    """

    folder: StudyFolder
    plan: Plan
    data: TrainingData
    trial: str
    folds: int
    costs: Mapping[str, int]
    micro_batch: int | None

    def __post_init__(self) -> None:
        whole = self.plan.space.epochs
        self._end = self.plan.whole(self.folds)
        self._scored = set(range(whole, self._end + 1, whole))
        self._scored |= set(self.plan.split(self.folds).rungs)
        # Where the trial may have to wait, and at its end, in case it is the best.
        self._waits = self._scored if self.plan.space.stopping.rule in PAUSING else {self._end}
        self._price = dollars_a_second(self.plan.space.resources)
        self._saved = time.monotonic()
        self._asked = 0.0

    def __call__(self, done: FoldEpoch, judged: Judged, state: Callable[[], State]) -> None:
        """Keep what is to be kept of `done`, and report it; the process ends where it has to go."""
        if done.epoch in self._scored:
            name = self.folder.scores(self.trial, done.epoch)
            self.folder.write(name, scores_file(done, judged, self.data))
        leaving = self._draining()
        due = time.monotonic() - self._saved >= CHECKPOINT_EVERY_S
        if leaving or due or done.epoch in self._waits:
            self.folder.keep(self.trial, pack(state()))
            self._saved = time.monotonic()
        send({**_told(asdict(done), self.costs), **self._more(done, judged)})
        if leaving:
            # The trial goes on elsewhere from here; this worker is not to be reused.
            log.warning("this machine is being taken away; %s moves", self.trial)
            os._exit(0)

    def _more(self, done: FoldEpoch, judged: Judged) -> dict[str, Any]:
        """What no checkpoint keeps: what was measured here, and what only some reports have.

        Dollars, the metric of all folds' scores pooled, the rows of a micro-batch where memory is
        short.
        """
        more: dict[str, Any] = dict(peak_memory(self.data.device))
        if judged.inference_ms is not None:
            more["inference_ms"] = judged.inference_ms
        if self.micro_batch is not None:
            more["micro_batch"] = self.micro_batch
        if self._price:
            more["dollars"] = done.seconds * self._price
        if len(self.plan.splits) > 1 and done.epoch == self._end:
            more["pooled"] = self._pooled()
        return more

    def _pooled(self) -> float | None:
        """The objective over all folds' judged rows at once, each row by its own fold's model."""
        found = out_of_fold(self.folder, self.plan, self.trial, self.folds)
        names = self.plan.class_names
        return score(found.labels, found.probabilities, names)[self.plan.space.metric]

    def _draining(self) -> bool:
        """Whether this machine was told that it will go; asked now and then."""
        if time.monotonic() - self._asked < LEAVING_EVERY_S:
            return False
        self._asked = time.monotonic()
        return this_node() in draining_nodes()


def send(report: Mapping[str, Any]) -> None:
    """Report to the study, with where it was; as text, since Tune flattens what is nested."""
    report = {**report, "host": socket.gethostname()}
    tune.report({"report": json.dumps(report), "node": this_node()})


def warn(text: str) -> None:
    """Tell the study, and the log, what is not as it should be, and harms nothing."""
    log.warning("%s", text)
    tune.report({"warning": text, "node": this_node()})


def resend_reports(state: State, reported: int, costs: Mapping[str, int]) -> None:
    """Report what the checkpoint knows and the journal does not, as after a kill between them."""
    for known in state["history"]:
        if known["epoch"] > reported:
            send(_told(known, costs))


def _told(done: Mapping[str, Any], costs: Mapping[str, int]) -> dict[str, Any]:
    """The fold-epoch `done`; the trial's first one has the `costs` that do not change."""
    return {**done, "costs": costs} if costs and done["epoch"] == 1 else dict(done)
