import pytest
import torch

from raysearch.config.hyperparameter_spec import Value
from raysearch.config.hyperparameters import resolve
from raysearch.training.components import OPTIMIZERS
from raysearch.training.train_config import TrainConfig
from raysearch.training.training_data import TrainingData
from support.recorded_training import HPARAMS, recorded_training, resumed_results


def make_optimizer(**hparams: Value) -> torch.optim.Optimizer:
    """Create the optimizer of a trial with `hparams`, for one parameter."""
    params = resolve(hparams)
    weight = [torch.nn.Parameter(torch.zeros(1))]
    return OPTIMIZERS[params.optimizer](weight, **params.arguments_of("optimizer"))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_each_optimizer_lowers_the_loss_and_resumes_from_its_checkpoint(
    data: TrainingData, optimizer: str
) -> None:
    hparams = {**HPARAMS, "optimizer": optimizer, "schedule": "constant"}
    del hparams["learning_rate"]
    config = TrainConfig(hparams, epochs=3, metric="auroc", seed=5)
    results = recorded_training(config, data).results()
    assert results[2].loss < results[0].loss
    assert resumed_results(config, data, stop_after=2) == results


def test_the_defaults_of_optimizers_are_those_of_torch() -> None:
    assert make_optimizer(optimizer="adamw").defaults["betas"] == (0.9, 0.999)
    changed = make_optimizer(optimizer="adamw", beta1=0.5, beta2=0.9)
    assert changed.defaults["betas"] == (0.5, 0.9)
    assert make_optimizer(optimizer="sgd").defaults["nesterov"] is False


def test_nesterov_has_no_effect_without_momentum() -> None:
    assert make_optimizer(optimizer="sgd", nesterov=True).defaults["nesterov"] is True
    # torch rejects Nesterov momentum without momentum, where the step is the plain one.
    without_momentum = make_optimizer(optimizer="sgd", nesterov=True, momentum=0.0)
    assert without_momentum.defaults["nesterov"] is False
