from dataclasses import replace

import numpy as np
import pytest
import torch

from raysearch.config.hyperparameter_spec import Value
from raysearch.config.hyperparameters import resolve
from raysearch.training.components import SCHEDULES
from raysearch.training.fold_loss import FoldLoss
from raysearch.training.fold_training import FoldTrainer
from raysearch.training.training_data import TrainingData
from support.recorded_training import small_config


def learning_rates(num_steps: int, **hparams: Value) -> list[float]:
    """Return the learning rate of each step, as a fraction of that of the optimizer."""
    params = resolve(hparams)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1, momentum=0.5)
    schedule = SCHEDULES[params.schedule](optimizer, num_steps, **params.arguments_of("schedule"))
    rates = []
    for _ in range(num_steps):
        assert optimizer.param_groups[0]["momentum"] == 0.5
        rates.append(optimizer.param_groups[0]["lr"] / 0.1)
        optimizer.step()
        if len(rates) < num_steps:
            schedule.step()
    return rates


def test_schedules_equal_their_formulas() -> None:
    assert learning_rates(3, schedule="constant") == pytest.approx([1, 1, 1])
    assert learning_rates(4, schedule="cosine") == pytest.approx([1, 0.85355339, 0.5, 0.14644661])
    assert learning_rates(4, schedule="exponential", final_lr_fraction=0.0625) == pytest.approx(
        [1, 0.5, 0.25, 0.125]
    )


@pytest.mark.parametrize("num_steps", [1, 4, 10, 40])
@pytest.mark.parametrize("warmup_fraction", [0.0, 0.1, 0.25, 0.3, 0.999])
def test_one_cycle_rises_and_falls_and_does_not_change_the_momentum(
    num_steps: int, warmup_fraction: float
) -> None:
    rates = learning_rates(num_steps, schedule="one_cycle", warmup_fraction=warmup_fraction)
    assert max(rates) <= 1 + 1e-11
    if num_steps > 1:
        assert rates[-1] < 1e-4
        peak = rates.index(max(rates))
        assert rates[: peak + 1] == sorted(rates[: peak + 1])
        assert rates[peak:] == sorted(rates[peak:], reverse=True)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "exponential"])
@pytest.mark.parametrize("num_steps", [1, 2, 8, 9])
@pytest.mark.parametrize("warmup_fraction", [0.1, 0.5, 0.999])
def test_a_warmup_rises_linearly_to_at_most_the_learning_rate(
    schedule: str, num_steps: int, warmup_fraction: float
) -> None:
    rates = learning_rates(num_steps, schedule=schedule, warmup_fraction=warmup_fraction)
    assert all(0 < rate <= 1 for rate in rates)
    rise = [rate for step, rate in enumerate(rates) if step < warmup_fraction * num_steps]
    differences = np.diff([0.0, *rise])
    assert differences == pytest.approx(np.full(len(rise), rise[0]))
    assert rates[len(rise) :] == sorted(rates[len(rise) :], reverse=True)


def test_a_plateau_of_the_training_loss_lowers_the_learning_rate(
    data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config(
        optimizer="sgd",
        schedule="reduce_on_plateau",
        learning_rate=0.5,
        plateau_factor=0.5,
        plateau_patience=1,
    )
    trainer = FoldTrainer(replace(config, epochs=5), data, 0)
    loss = torch.tensor(1.0, requires_grad=True)
    monkeypatch.setattr(FoldLoss, "mean", lambda *_args: 0 * loss + 1.0)
    rates = []
    for epoch in range(5):
        trainer.train_epoch(epoch)
        rates.append(trainer.optimization.optimizer.param_groups[0]["lr"])
    assert rates == [0.5, 0.5, 0.25, 0.25, 0.125]
