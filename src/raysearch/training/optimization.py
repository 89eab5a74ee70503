"""The optimizer and its learning-rate schedule, in the stages of transfer learning."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from raysearch.config.hyperparameters import TrialParams, resolve
from raysearch.config.names import LAST_BLOCKS
from raysearch.training.components import component
from raysearch.training.layer_groups import LayerGroups, scale_learning_rates
from raysearch.training.train_config import TrainConfig

# What `state_dict` of torch's objects returns.
StateDict = dict[str, Any]


@dataclass(frozen=True)
class OptimizationState:
    """The state of an `Optimization`.

    Attributes:
        stage: The first epoch of the current stage.
        optimizer: The state dictionary of the optimizer.
        schedule: The numbers and lists of the state dictionary of the schedule.
    """

    stage: int
    optimizer: StateDict
    schedule: StateDict


class Optimization:
    """The optimizer and the schedule of a model.

    In the first stage, of `head_epochs` epochs, only the head is trained, with a constant learning
    rate of its own. In the second stage, a new optimizer and a new schedule train all layers that
    are not frozen.

    Args:
        config: The configuration of the training.
        model: The network.
        num_classes: The number of its logits.
        steps_per_epoch: The number of batches of an epoch.
    """

    def __init__(
        self, config: TrainConfig, model: nn.Module, num_classes: int, steps_per_epoch: int
    ) -> None:
        self.config, self.model, self.steps_per_epoch = config, model, steps_per_epoch
        self.clip_norm = config.params.gradient_clip_norm
        self.head_epochs = config.params.head_epochs
        self.layers = LayerGroups(
            model,
            num_classes,
            frozen_blocks=config.params.frozen_blocks,
            layer_decay=config.params.layer_decay,
            head_weight_decay=config.params.head_weight_decay,
            trained_blocks=(
                config.params.trained_blocks if config.params.adaptation == LAST_BLOCKS else None
            ),
        )
        self._start_stage(0)

    def _start_stage(self, stage: int) -> None:
        """Create the optimizer and the schedule of the stage that starts with epoch `stage`."""
        self.stage = stage
        self.head_only = stage < self.head_epochs
        self.layers.freeze(head_only=self.head_only)
        if self.head_only:
            num_epochs, params = self.head_epochs, _head_params(self.config)
        else:
            num_epochs, params = self.config.epochs - self.head_epochs, self.config.params
        parameters = (
            self.layers.parameters() if self.layers.is_uniform else self.layers.parameter_groups()
        )
        optimizer = component("optimizer", params)(parameters)
        self.optimizer = scale_learning_rates(optimizer)
        num_steps = num_epochs * self.steps_per_epoch
        self.schedule = component("schedule", params)(self.optimizer, num_steps)

    def start_epoch(self, epoch: int) -> None:
        """Start the stage of `epoch` if it is new, and set the training mode of each layer."""
        if self.stage < self.head_epochs <= epoch:
            self._start_stage(self.head_epochs)
        self.layers.train(head_only=self.head_only)

    def zero_grad(self) -> None:
        """Reset the gradients."""
        self.optimizer.zero_grad(set_to_none=True)

    def step(self) -> None:
        """Clip the gradient, and update the parameters and the learning rate."""
        if self.clip_norm:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm)
        self.optimizer.step()
        if not isinstance(self.schedule, ReduceLROnPlateau):
            self.schedule.step()

    def end_epoch(self, loss: float) -> None:
        """Update a plateau schedule with the mean training `loss` of the epoch."""
        if isinstance(self.schedule, ReduceLROnPlateau):
            self.schedule.step(loss)

    def state(self) -> OptimizationState:
        """Return the current state."""
        schedule = {
            name: value
            for name, value in self.schedule.state_dict().items()
            if isinstance(value, (int, float, list))
        }
        return OptimizationState(self.stage, self.optimizer.state_dict(), schedule)

    def load_state(self, state: OptimizationState) -> None:
        """Restore a state."""
        if state.stage != self.stage:
            self._start_stage(state.stage)
        self.optimizer.load_state_dict(state.optimizer)
        self.schedule.load_state_dict(state.schedule)


def _head_params(config: TrainConfig) -> TrialParams:
    """Return the parameters of the stage of the head: a constant learning rate of its own."""
    head_learning_rate = config.params.head_learning_rate
    rate = {} if head_learning_rate is None else {"learning_rate": head_learning_rate}
    declared = config.params.declared
    built_in = {name: value for name, value in config.hparams.items() if name not in declared}
    return replace(resolve({**built_in, **rate, "schedule": "constant"}), declared=declared)
