"""The steps along the gradient: the optimizer, its schedule, and the stages of a transfer."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from raysearch.models.architectures import given
from raysearch.training.components import DEFAULTS, OPTIMIZERS, SCHEDULES
from raysearch.training.layer_groups import Layers, slowed
from raysearch.training.train_config import TrainConfig

State = dict[str, Any]


class Steps:
    """The optimizer of `model`, a net of `classes`, over epochs of `steps` steps.

    In the first `head_epochs` epochs the head alone learns, at a constant rate of its own; then an
    optimizer and a schedule begin anew, for all that is not frozen.
    """

    def __init__(self, config: TrainConfig, model: nn.Module, classes: int, steps: int) -> None:
        self.config, self.model, self.steps = config, model, steps
        self.clip = float(config.hyperparameter("gradient_clip_norm", 0.0))
        self.head_epochs = int(config.hyperparameter("head_epochs", 0))
        self.layers = Layers(model, classes, **given(Layers, config.hparams))
        self._enter(0)

    def _enter(self, stage: int) -> None:
        """Begin the stage that starts with the epoch `stage`."""
        self.stage = stage
        self.head_only = stage < self.head_epochs
        self.layers.hold(self.head_only)
        hparams = dict(self.config.hparams)
        if self.head_only:
            epochs, hparams["schedule"] = self.head_epochs, "constant"
            if "head_learning_rate" in hparams:
                hparams["learning_rate"] = hparams["head_learning_rate"]
        else:
            epochs = self.config.epochs - self.head_epochs
        optimizer = OPTIMIZERS[hparams.get("optimizer", DEFAULTS["optimizer"])]
        learned = self.model.parameters() if self.layers.plain else self.layers.groups()
        self.optimizer = slowed(optimizer(learned, **given(optimizer, hparams)))
        schedule = SCHEDULES[hparams.get("schedule", DEFAULTS["schedule"])]
        self.schedule = schedule(self.optimizer, epochs * self.steps, **given(schedule, hparams))

    def begin(self, epoch: int) -> None:
        """Be ready to learn in `epoch`: its stage, and the mode of each layer."""
        if self.stage < self.head_epochs <= epoch:
            self._enter(self.head_epochs)
        self.layers.train(self.head_only)

    def clear(self) -> None:
        """Forget the gradient."""
        self.optimizer.zero_grad(set_to_none=True)

    def step(self) -> None:
        """One step along the gradient, at most as long as the clip."""
        if self.clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self.optimizer.step()
        if not isinstance(self.schedule, ReduceLROnPlateau):
            self.schedule.step()

    def end(self, loss: float) -> None:
        """Take note of an epoch's mean `loss`, by which a schedule may go."""
        if isinstance(self.schedule, ReduceLROnPlateau):
            self.schedule.step(loss)

    def state(self) -> State:
        """The stage, the optimizer and the schedule as they are now."""
        return {
            "stage": self.stage,
            "optimizer": self.optimizer.state_dict(),
            "schedule": {
                name: value
                for name, value in self.schedule.state_dict().items()
                if isinstance(value, (int, float, list))
            },
        }

    def load(self, state: State) -> None:
        """Take up what `state` holds of them."""
        if state["stage"] != self.stage:
            self._enter(state["stage"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
