from pathlib import Path

import pytest
import torch
from torch import nn

from raysearch.config.hyperparameter_spec import Value
from raysearch.models.architectures.networks import build_network
from raysearch.training.precision_choice import CANDIDATES, choose_precision
from raysearch.training.precision_settings import PrecisionSettings
from support.lora_networks import HIDDEN, NUM_BLOCKS, WIDTH, timm_snapshot


def test_the_chosen_precision_is_one_of_the_candidates() -> None:
    hparams: dict[str, Value] = {"width": 4, "convolutions": 1}
    assert choose_precision("cnn", hparams, (16, 16, 3), 2, torch.device("cpu")) in CANDIDATES


@pytest.mark.parametrize("architecture", ["transformer", "benchmark"])
def test_the_steps_of_lora_are_timed_if_it_fits_the_network(
    tmp_path: Path, architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: set[int] = set()

    def record_trained(settings: PrecisionSettings, net: nn.Module, *_arguments: object) -> float:
        trained.add(sum(each.numel() for each in net.parameters() if each.requires_grad))
        return float(settings != CANDIDATES[0])

    monkeypatch.setattr("raysearch.training.precision_choice._seconds_per_step", record_trained)
    is_transformer = architecture == "transformer"
    name = str(timm_snapshot(tmp_path / "vit")) if is_transformer else architecture
    hparams: dict[str, Value] = {"adaptation": "lora", "lora_rank": 3, "lora_targets": "mlp"}
    choose_precision(name, hparams, (28, 28, 3), 2, torch.device("cpu"))
    num_adapter_values = NUM_BLOCKS * 2 * 3 * (WIDTH + HIDDEN)
    parameters = build_network(name, (28, 28, 3), 2, {}).parameters()
    num_values = sum(each.numel() for each in parameters)
    assert trained == {num_adapter_values + 2 * WIDTH + 2 if is_transformer else num_values}
