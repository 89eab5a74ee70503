"""One fold of a trial: a fresh model that learns its rows, and judges the others."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from raysearch.data.batches import epoch_order
from raysearch.models.architectures import build, given
from raysearch.models.dihedral import AVERAGES
from raysearch.training.batches import cut, dihedral, normalise
from raysearch.training.config import TrainConfig
from raysearch.training.data import TrainingData
from raysearch.training.failures import NAN_LOSS, NAN_SCORES, TrainingFailedError
from raysearch.training.parts import DEFAULTS, OPTIMIZERS, SCHEDULES
from raysearch.training.seeds import key

State = dict[str, Any]
JUDGED_AT_ONCE = 512


@dataclass(frozen=True)
class Judged:
    """The rows of the fold that were judged, and their logits, float32 (rows, classes)."""

    rows: NDArray[np.int64]
    logits: NDArray[np.float32]


class FoldRun:
    """A fresh model learning one fold: its optimizer, its schedule, its random numbers.

    Every random number is keyed by (seed, fold, epoch), so a run that goes on from a checkpoint
    draws what an uninterrupted one would have drawn.
    """

    def __init__(self, config: TrainConfig, data: TrainingData, fold: int) -> None:
        self.config, self.data, self.fold = config, data, fold
        self.own_rows, self.judged_rows = data.folds[fold]
        self.weight = float(config.knob("auxiliary_weight", 1.0)) if data.further else 0.0
        self.labels = torch.cat([data.labels, *(one.labels for one in data.further)])
        further = np.arange(len(data.labels), len(self.labels) if self.weight else len(data.labels))
        self.rows = np.concatenate([self.own_rows, further.astype(np.int64)])
        counted = len(self.own_rows) + self.weight * len(further)
        self.mean_count = counted / len(self.rows)
        self.batch_size = config.batch_size
        torch.manual_seed(key(config.seed, fold, "model"))
        classes = len(data.class_names)
        net = build(config.architecture, data.shape, classes, config.knobs)
        self.model = config.numerics.place(net, data.device)
        optimizer = OPTIMIZERS[config.knob("optimizer", DEFAULTS["optimizer"])]
        self.optimizer = optimizer(self.model.parameters(), **given(optimizer, config.knobs))
        schedule = SCHEDULES[config.knob("schedule", DEFAULTS["schedule"])]
        steps = config.epochs * len(cut(torch.from_numpy(self.rows), self.batch_size))
        self.schedule = schedule(self.optimizer, steps, **given(schedule, config.knobs))
        self.loss = nn.CrossEntropyLoss(weight=self.class_weights())
        self.each_loss = nn.CrossEntropyLoss(weight=self.loss.weight, reduction="none")

    def class_weights(self) -> Tensor | None:
        """The inverse frequency of each class among the rows to learn, mean 1 over the rows."""
        if not self.config.knob("class_weights", True):
            return None
        labels = self.data.labels[torch.from_numpy(self.own_rows).to(self.data.device)]
        counts = torch.bincount(labels, minlength=len(self.data.class_names)).clamp(min=1)
        return len(self.own_rows) / (len(counts) * counts.float())

    def loss_of(self, logits: Tensor, rows: Tensor) -> Tensor:
        """The mean loss of `rows` (B,), in which auxiliary ones count by their weight.

        Divided by the mean count of an epoch's rows, not of this batch's: a batch of auxiliary rows
        alone is to weigh little.
        """
        labels = self.labels[rows]
        if not self.weight:
            return torch.as_tensor(self.loss(logits, labels))
        count = torch.where(rows < len(self.data.labels), 1.0, self.weight) / self.mean_count
        return torch.as_tensor((self.each_loss(logits, labels) * count).sum() / self.share(rows))

    def share(self, rows: Tensor) -> Tensor | int:
        """What the mean loss of `rows` (B,) is divided by: their number, or their class weights."""
        weight = self.loss.weight
        return len(rows) if weight is None else weight[self.labels[rows]].sum()

    def descend(self, batch: Tensor, rows: Tensor) -> Tensor:
        """Add the gradient of the mean loss of `rows` (B,) to the model's; that loss."""
        if self.config.accumulate == 1:
            return self._backward(batch, rows)
        total, whole = torch.zeros((), device=rows.device), self.share(rows)
        pieces = cut(rows, self.config.micro_batch(len(rows)))
        batches = torch.split(batch, [len(piece) for piece in pieces])
        for some, piece in zip(batches, pieces, strict=True):
            total += self._backward(some, piece, self.share(piece) / whole)
        return total

    def _backward(self, batch: Tensor, rows: Tensor, part: Tensor | float | None = None) -> Tensor:
        with self.config.numerics.autocast(self.data.device):
            logits = self.model(batch)
        loss = self.loss_of(logits.float(), rows)
        if part is not None:
            loss = loss * part
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def learn(self, epoch: int) -> float:
        """One epoch over the rows to learn; their mean loss."""
        torch.manual_seed(key(self.config.seed, self.fold, epoch))
        turns = torch.Generator().manual_seed(key(self.config.seed, self.fold, epoch, "turns"))
        order = epoch_order(self.rows, self.config.seed, self.fold, epoch)
        index = torch.from_numpy(order).to(self.data.device)
        total = torch.zeros((), device=self.data.device)
        self.model.train()
        augmented = self.config.knob("augment", "dihedral") == "dihedral"
        for rows in cut(index, self.batch_size):
            batch = self.batch(rows)
            if augmented:
                batch = dihedral(batch, turns)
            self.optimizer.zero_grad(set_to_none=True)
            loss = self.descend(batch, rows)
            self.optimizer.step()
            if not isinstance(self.schedule, ReduceLROnPlateau):
                self.schedule.step()
            total += loss * len(rows)
        mean = float(total) / len(index)
        if not math.isfinite(mean):
            raise TrainingFailedError(NAN_LOSS)
        if isinstance(self.schedule, ReduceLROnPlateau):
            self.schedule.step(mean)
        return mean

    def judge(self, averaged: bool) -> Judged:
        """The logits of the rows to judge, in their order.

        With `averaged`, as at a fold's end, by the mean that the knob `tta` names: it takes as
        long as several epochs' single views.
        """
        tta = self.config.knob("tta", "none") if averaged else "none"
        model = AVERAGES[tta](self.model).eval()
        index = torch.from_numpy(self.judged_rows).to(self.data.device)
        with torch.inference_mode(), self.config.numerics.autocast(self.data.device):
            parts = [model(self.batch(rows)).float() for rows in torch.split(index, JUDGED_AT_ONCE)]
        logits = torch.cat(parts).cpu().numpy()
        if not np.isfinite(logits).all():
            raise TrainingFailedError(NAN_SCORES)
        return Judged(self.judged_rows, logits)

    def batch(self, rows: Tensor) -> Tensor:
        """The patches `rows` as one normalised float32 batch (B, 3, H, W)."""
        batch = normalise(self.data.gather(rows), self.data.shape)
        return batch.contiguous(memory_format=self.config.numerics.layout)

    def state(self) -> State:
        """The model, the optimizer and the schedule as they are now."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": {
                name: value
                for name, value in self.schedule.state_dict().items()
                if isinstance(value, (int, float, list))
            },
        }

    def load(self, state: State) -> None:
        """Take up the model, the optimizer and the schedule of `state`."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
