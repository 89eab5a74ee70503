"""One fold of a trial: a fresh model that learns its rows, and judges the others."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from raysearch.models.architectures import begun, given
from raysearch.models.dihedral import AVERAGES, VIEWS
from raysearch.training.augmentation import Augmentation
from raysearch.training.batches import Targets, batch_of, cut, mixed
from raysearch.training.components import DEFAULTS, LOSSES
from raysearch.training.failures import NAN_LOSS, NAN_SCORES, TrainingFailedError
from raysearch.training.optimization import Steps
from raysearch.training.preprocessed_pixels import prepared
from raysearch.training.row_order import balanced_order, epoch_order
from raysearch.training.seeds import key
from raysearch.training.train_config import TrainConfig
from raysearch.training.training_data import TrainingData
from raysearch.training.weight_averaging import averaged

State = dict[str, Any]
JUDGED_AT_ONCE = 512


@dataclass(frozen=True)
class Judged:
    """The rows of the fold that were judged, and their logits, float32 (rows, classes).

    `inference_ms` is what one view of a patch took, from the stored pixels to the logits, in
    milliseconds; None where it was not measured.
    """

    rows: NDArray[np.int64]
    logits: NDArray[np.float32]
    inference_ms: float | None = None


class FoldRun:
    """A fresh model learning one fold: its optimizer, its schedule, its random numbers.

    Every random number is keyed by (seed, fold, epoch), so a run that goes on from a checkpoint
    draws what an uninterrupted one would have drawn.
    """

    def __init__(self, config: TrainConfig, data: TrainingData, fold: int) -> None:
        self.config, self.fold = config, fold
        self.preprocessing, self.data = prepared(config, data, fold)
        self.own_rows, self.judged_rows = data.folds[fold]
        self.weight = float(config.hyperparameter("auxiliary_weight", 1.0)) if data.further else 0.0
        self.labels = torch.cat([data.labels, *(one.labels for one in data.further)])
        further = np.arange(len(data.labels), len(self.labels) if self.weight else len(data.labels))
        self.rows = np.concatenate([self.own_rows, further.astype(np.int64)])
        counted = len(self.own_rows) + self.weight * len(further)
        self.mean_count = counted / len(self.rows)
        self.batch_size = config.batch_size
        torch.manual_seed(key(config.seed, fold, "model"))
        classes = len(data.class_names)
        net = begun(config.architecture, data.shape, classes, config.hparams)
        self.model = config.numerics.place(net, data.device)
        steps = len(cut(torch.from_numpy(self.rows), self.batch_size))
        self.steps = Steps(config, self.model, classes, steps)
        self.class_weight = self.class_weights()
        part = LOSSES[config.hyperparameter("loss", DEFAULTS["loss"])]
        self.loss = partial(part, weight=self.class_weight, **given(part, config.hparams))
        self.augment = Augmentation(**given(Augmentation, config.hparams))
        self.average = averaged(self.model, float(config.hyperparameter("ema", 0.0)))

    def class_weights(self) -> Tensor | None:
        """The inverse frequency of each class among the rows to learn, mean 1 over the rows."""
        even = self.config.hyperparameter("balanced_sampling", False)
        if even or not self.config.hyperparameter("class_weights", True):
            return None
        labels = self.data.labels[torch.from_numpy(self.own_rows).to(self.data.device)]
        counts = torch.bincount(labels, minlength=len(self.data.class_names)).clamp(min=1)
        return len(self.own_rows) / (len(counts) * counts.float())

    def loss_of(self, logits: Tensor, rows: Tensor) -> Tensor:
        """The mean loss of `rows` (B,), in which auxiliary ones count by their weight.

        Divided by the mean count of an epoch's rows, not of this batch's: a batch of auxiliary rows
        alone is to weigh little.
        """
        each: Tensor = self.loss(logits, self.labels[rows])
        if self.weight:
            own = rows < len(self.data.labels)
            each = each * (torch.where(own, 1.0, self.weight) / self.mean_count)
        return each.sum() / self.fraction(rows)

    def fraction(self, rows: Tensor) -> Tensor | int:
        """What the mean loss of `rows` (B,) is divided by: their number, or their class weights."""
        weight = self.class_weight
        return len(rows) if weight is None else weight[self.labels[rows]].sum()

    def descend(self, batch: Tensor, targets: Targets) -> Tensor:
        """Add the gradient of the mean loss of `targets` to the model's; that loss."""
        if self.config.accumulate == 1:
            return self._backward(batch, targets)
        size = self.config.micro_batch(len(batch))
        cuts = [
            [(piece, part / self.fraction(rows)) for piece in cut(rows, size)]
            for rows, part in targets
        ]
        total, start = torch.zeros((), device=batch.device), 0
        for pieces in zip(*cuts, strict=True):
            some = batch[start : start + len(pieces[0][0])]
            start += len(some)
            total += self._backward(
                some, [(rows, part * self.fraction(rows)) for rows, part in pieces]
            )
        return total

    def _backward(self, batch: Tensor, targets: Targets) -> Tensor:
        with self.config.numerics.autocast(self.data.device):
            logits = self.model(batch)
        logits = logits.float()
        losses = [self.loss_of(logits, rows) * part for rows, part in targets]
        loss = losses[0] if len(losses) == 1 else torch.stack(losses).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def learn(self, epoch: int) -> float:
        """One epoch over the rows to learn; their mean loss."""
        torch.manual_seed(key(self.config.seed, self.fold, epoch))
        turns = torch.Generator().manual_seed(key(self.config.seed, self.fold, epoch, "turns"))
        mixes = np.random.default_rng(key(self.config.seed, self.fold, epoch, "mixup"))
        index = torch.from_numpy(self.order(epoch)).to(self.data.device)
        total = torch.zeros((), device=self.data.device)
        self.steps.begin(epoch)
        mixup = float(self.config.hyperparameter("mixup", 0.0))
        for rows in cut(index, self.batch_size):
            batch = self.augment(self.batch(rows, turns if self.augment.turns else None), turns)
            targets: Targets = [(rows, 1.0)]
            if mixup:
                batch, targets = mixed(batch, rows, float(mixes.beta(mixup, mixup)), turns)
            self.steps.clear()
            loss = self.descend(batch, targets)
            self.steps.step()
            if self.average is not None:
                self.average.update_parameters(self.model)
            total += loss * len(rows)
        mean = float(total) / len(index)
        if not math.isfinite(mean):
            raise TrainingFailedError(NAN_LOSS)
        self.steps.end(mean)
        return mean

    def order(self, epoch: int) -> NDArray[np.int64]:
        """The rows of an epoch, in their order."""
        seed = self.config.seed
        if self.config.hyperparameter("balanced_sampling", False):
            labels = self.labels.cpu().numpy()[self.rows]
            return balanced_order(self.rows, labels, seed, self.fold, epoch)
        return epoch_order(self.rows, seed, self.fold, epoch)

    @property
    def net(self) -> nn.Module:
        """What judges, and is kept: the model, or the average of its last steps."""
        if self.average is None:
            return self.model
        module: nn.Module = self.average.module
        return module

    def judge(self, averaged: bool) -> Judged:
        """The logits of the rows to judge, in their order.

        With `averaged`, as at a fold's end, by the mean that the hyperparameter `tta` names: it takes as
        long as several epochs' single views.
        """
        tta = self.config.hyperparameter("tta", "none") if averaged else "none"
        model = AVERAGES[tta](self.net).eval()
        index = torch.from_numpy(self.judged_rows).to(self.data.device)
        views = VIEWS[tta](*self.data.shape[:2])
        began = time.perf_counter()
        with torch.inference_mode(), self.config.numerics.autocast(self.data.device):
            parts = [model(self.batch(rows)).float() for rows in torch.split(index, JUDGED_AT_ONCE)]
        logits = torch.cat(parts).cpu().numpy()  # waits for the device
        took_ms = 1000 * (time.perf_counter() - began)
        if not np.isfinite(logits).all():
            raise TrainingFailedError(NAN_SCORES)
        return Judged(self.judged_rows, logits, took_ms / len(logits) / views)

    def batch(self, rows: Tensor, turns: torch.Generator | None = None) -> Tensor:
        """The patches `rows` as one normalised float32 batch (B, 3, H, W), with `turns` turned."""
        layout = self.config.numerics.layout
        return batch_of(self.data.gather(rows), self.data.shape, layout, turns)

    def state(self) -> State:
        """The model, its steps and the average as they are now."""
        average = {} if self.average is None else {"average": self.average.state_dict()}
        return {
            **average,
            "model": self.model.state_dict(),
            **self.steps.state(),
        }

    def load(self, state: State) -> None:
        """Take up what `state` holds of them."""
        self.model.load_state_dict(state["model"])
        self.steps.load(state)
        if self.average is not None:
            self.average.load_state_dict(state["average"])
