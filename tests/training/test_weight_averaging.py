import pytest
import torch

from raysearch.training.batches import split_batches
from raysearch.training.fold_training import FoldTrainer
from raysearch.training.training_data import TrainingData
from raysearch.training.weight_averaging import averaged_model
from support.recorded_training import small_config


def test_the_average_equals_its_formula_and_forgets_the_initial_weights() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    average = averaged_model(model, 0.5)
    assert average is not None
    expected = 0.0
    for step in range(6):
        torch.nn.init.constant_(model.weight, float(step))
        average.update_parameters(model)
        decay = min(0.5, (1 + step) / (10 + step)) if step else 0.0
        expected = decay * expected + (1 - decay) * step
    values = [parameter.item() for parameter in average.module.parameters()]
    assert values == pytest.approx([expected])


def test_there_is_no_average_without_decay() -> None:
    assert averaged_model(torch.nn.Linear(1, 1), 0.0) is None


def test_an_average_includes_the_batch_counts_of_batch_normalization(data: TrainingData) -> None:
    trainer = FoldTrainer(small_config(ema_decay=0.5), data, 0)
    trainer.train_epoch(0)
    counts = [buffer for buffer in trainer.trained_model.buffers() if buffer.dtype == torch.int64]
    num_steps = len(split_batches(torch.from_numpy(trainer.epoch_indices), 32))
    assert len(counts) == 3
    assert all(0 < int(count) <= num_steps for count in counts)


def test_indices_stay_as_they_are() -> None:
    model = torch.nn.BatchNorm1d(2)
    model.register_buffer("indices", torch.arange(50))
    average = averaged_model(model, 0.9)
    assert average is not None
    for _step in range(40):
        average.update_parameters(model)
    assert torch.equal(average.module.get_buffer("indices"), torch.arange(50))
