"""Reports each fold-epoch of a trial to the study, once its scores and checkpoint are stored."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from raysearch.config.custom_code import load_metrics
from raysearch.metrics.classification import classification_metrics
from raysearch.search.engine.nodes import current_node_id, dollars_per_second, draining_node_ids
from raysearch.search.engine.worker_messages import TrialTask, WorkerWarning, send_message
from raysearch.search.journal.events import FoldReport, ModelCosts
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.scheduling.policy import rule_of
from raysearch.search.scheduling.stopping_rules import PAUSING
from raysearch.search.study.fold_scores import (
    encode_fold_epoch_scores,
    read_scores,
    score_files,
)
from raysearch.search.study.plan import Plan
from raysearch.training.checkpoint import pack_checkpoint
from raysearch.training.cost_measurement import peak_memory
from raysearch.training.fold_training import ValidationScores
from raysearch.training.loop import FoldEpoch, TrainingState
from raysearch.training.training_data import TrainingData

log = logging.getLogger(__name__)
# More frequent checkpoints would cost short trials more time than they save.
CHECKPOINT_INTERVAL_S = 10.0
DRAINING_INTERVAL_S = 2.0


@dataclass
class Reporter:
    """Takes each fold-epoch of a trial: stores scores and a checkpoint, then sends the report.

    Args:
        folder: The study's folder.
        plan: The study's plan.
        data: The data that the trial trains on.
        trial: Name of the trial.
        folds: Its number of folds.
        epochs: Its epochs of a fold.
        costs: Sent with the first fold-epoch; None if the journal has it already.
        micro_batch: Rows of a micro-batch if the device's memory is too small for a batch.
        score_hashes: SHA-256 of the stored files of scores, by fold-epoch: those that the journal
            names, and those of the checkpoint.
    """

    folder: StudyFolder
    plan: Plan
    data: TrainingData
    trial: str
    folds: int
    epochs: int
    costs: ModelCosts | None
    micro_batch: int | None
    score_hashes: Mapping[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._score_hashes = dict(self.score_hashes)
        self._last_epoch = self.folds * self.epochs
        self._fold_ends = range(self.epochs, self._last_epoch + 1, self.epochs)
        rungs = rule_of(self.plan.space).levels(self.folds, self.epochs)
        self._scored_epochs = {*self._fold_ends, *rungs}
        # The trial may pause at these; the best trial's checkpoint is kept after its end.
        pauses = self.plan.space.stopping.rule in PAUSING
        self._checkpoint_epochs = self._scored_epochs if pauses else {self._last_epoch}
        self._dollars_per_second = dollars_per_second(self.plan.space.resources)
        self._last_checkpoint_s = time.monotonic()
        self._last_draining_check_s = 0.0

    def __call__(
        self, fold_epoch: FoldEpoch, scores: ValidationScores, state: Callable[[], TrainingState]
    ) -> None:
        """Store and report a fold-epoch; if the node drains, end the process after that.

        Args:
            fold_epoch: The fold-epoch.
            scores: The scores of its validation rows.
            state: Returns the state of the training, which is the checkpoint.
        """
        if fold_epoch.epoch in self._scored_epochs:
            self._store_scores(fold_epoch, scores)
        drains = self._drains()
        is_due = time.monotonic() - self._last_checkpoint_s >= CHECKPOINT_INTERVAL_S
        if drains or is_due or fold_epoch.epoch in self._checkpoint_epochs:
            checkpoint = replace(state(), score_hashes=self._score_hashes)
            self.folder.write_checkpoint(self.trial, pack_checkpoint(checkpoint))
            self._last_checkpoint_s = time.monotonic()
        send_message(self._report(fold_epoch, scores))
        self.costs = None
        if drains:
            # The trial continues on another node; Tune must not reuse this worker.
            log.warning("this node drains; %s moves to another one", self.trial)
            os._exit(0)

    def _store_scores(self, fold_epoch: FoldEpoch, scores: ValidationScores) -> None:
        """Store the scores of a fold-epoch, unless they are stored.

        A trial that starts again, or from an older checkpoint, trains fold-epochs that the journal
        has already. The scores that it has then are those from which the reported values were
        computed; another device would compute slightly different ones.
        """
        if self._has_scores(fold_epoch.epoch):
            return
        content = encode_fold_epoch_scores(fold_epoch, scores, self.data)
        sha256 = self.folder.write_scores(self.trial, fold_epoch.epoch, content)
        self._score_hashes[fold_epoch.epoch] = sha256

    def _has_scores(self, epoch: int) -> bool:
        sha256 = self._score_hashes.get(epoch)
        if sha256 is None:
            return False
        try:
            self.folder.read_verified(self.folder.scores(self.trial, epoch, sha256), sha256)
        except (FileNotFoundError, ValueError):
            return False
        return True

    def _report(self, fold_epoch: FoldEpoch, scores: ValidationScores) -> FoldReport:
        """Add to the fold-epoch what a checkpoint does not hold.

        That is: memory and prediction time, the price, the rows of a micro-batch, and, after the
        last fold-epoch of a study with several numbers of folds, the pooled objective.
        """
        price = self._dollars_per_second
        is_pooled = len(self.plan.splits) > 1 and fold_epoch.epoch == self._last_epoch
        peaks = peak_memory(self.data.device)
        return replace(
            fold_report(self.trial, fold_epoch, self.costs),
            peak_device_bytes=peaks.get("peak_device_bytes"),
            peak_rss_bytes=peaks.get("peak_rss_bytes"),
            inference_ms=scores.inference_ms,
            micro_batch=self.micro_batch,
            dollars=fold_epoch.seconds * price if price else None,
            pooled=self._pooled_objective() if is_pooled else None,
            scores=self._score_hashes.get(fold_epoch.epoch),
        )

    def _pooled_objective(self) -> float | None:
        """Return the objective of all folds' validation rows, each scored by its fold's network."""
        hashes = score_files(self.folder, self.trial, self._score_hashes, self._fold_ends)
        rows = read_scores(self.folder, self.plan, hashes)
        custom = load_metrics(self.plan.space.custom_objective)
        metrics = classification_metrics(
            rows.labels, rows.probabilities, self.plan.class_names, custom
        )
        return metrics[self.plan.space.metric]

    def _drains(self) -> bool:
        """Return whether this node drains; False if that was checked a moment ago."""
        if time.monotonic() - self._last_draining_check_s < DRAINING_INTERVAL_S:
            return False
        self._last_draining_check_s = time.monotonic()
        return current_node_id() in draining_node_ids()


def fold_report(trial: str, fold_epoch: FoldEpoch, costs: ModelCosts | None) -> FoldReport:
    """Convert a fold-epoch of `trial` to its report; that of the first one has the `costs`."""
    return FoldReport(
        trial=trial,
        fold=fold_epoch.fold,
        epoch=fold_epoch.epoch,
        objective=fold_epoch.objective,
        metrics=fold_epoch.metrics,
        loss=fold_epoch.loss,
        seconds=fold_epoch.seconds,
        samples=fold_epoch.samples,
        train_metrics=fold_epoch.train_metrics,
        costs=costs,
    )


def warn(text: str) -> None:
    """Send a warning to the study, and log it."""
    log.warning("%s", text)
    send_message(WorkerWarning(text))


def resend_reports(task: TrialTask, state: TrainingState, costs: ModelCosts | None) -> None:
    """Report the fold-epochs and the files of scores that the checkpoint has, and the journal not.

    A process that was killed between its checkpoint and its report leaves such fold-epochs.
    """
    for fold_epoch in state.history:
        epoch, scores = fold_epoch.epoch, state.score_hashes.get(fold_epoch.epoch)
        if epoch > task.reported_epochs or scores != task.score_hashes.get(epoch):
            first_costs = costs if fold_epoch is state.history[0] else None
            send_message(replace(fold_report(task.trial, fold_epoch, first_costs), scores=scores))
