from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from raysearch.config.hyperparameter_spec import Hparams
from raysearch.config.names import CLASSIFIERS
from raysearch.models import PatchShape
from raysearch.models.architectures import networks
from raysearch.models.encoders.encoder import Encoder
from raysearch.models.transfer.feature_heads import NearestNeighborsHead
from raysearch.training import cost_measurement
from raysearch.training.cost_measurement import (
    exceeded_limit,
    net_costs,
    peak_memory,
    reset_peak_memory,
)
from raysearch.training.train_config import TrainConfig
from raysearch.training.training_data import AuxiliaryRows, TrainingData
from support.recorded_training import small_config


def constant_patches(side: int, num_classes: int = 2, num_rows: int = 40) -> TrainingData:
    """Return patches of one color each in two folds of 20 training and 20 validation rows."""
    rows = np.arange(num_rows, dtype=np.int64)
    half = num_rows // 2
    colors = torch.arange(num_rows, dtype=torch.uint8).view(-1, 1)
    return TrainingData(
        colors.expand(num_rows, side * side * 3).contiguous(),
        torch.from_numpy(rows % 2),
        np.array([f"p{row}" for row in rows]),
        (side, side, 3),
        tuple(f"c{label}" for label in range(num_classes)),
        ((rows[:half], rows[half:]), (rows[half:], rows[:half])),
    )


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("resnet18", torchvision.models.ResNet18_Weights.IMAGENET1K_V1),
        ("mobilenet_v2", torchvision.models.MobileNet_V2_Weights.IMAGENET1K_V1),
        ("vit_b_16", torchvision.models.ViT_B_16_Weights.IMAGENET1K_V1),
    ],
)
def test_parameters_and_flops_are_those_that_torchvision_publishes(name: str, weights: Any) -> None:
    data = constant_patches(224, num_classes=1000, num_rows=2)
    costs = net_costs(TrainConfig({"architecture": name}, 1, "auroc", 0), data)
    assert costs["parameters"] == weights.meta["num_params"]
    # torchvision publishes multiply-adds, in units of 1e9.
    assert costs["flops"] == pytest.approx(2e9 * weights.meta["_ops"], rel=0.01)


@pytest.mark.parametrize("name", ["benchmark", "cnn", "p4m", "timm:tnt_s_legacy_patch16_224"])
def test_the_costs_of_a_network_do_not_depend_on_the_batch_size(name: str) -> None:
    data = constant_patches(224 if name.startswith("timm:") else 50)
    config = replace(small_config(), hparams={"architecture": name})
    costs = net_costs(config, data)
    assert costs["flops"] > costs["parameters"] > 0
    small_batch = replace(config, hparams={**config.hparams, "batch_size": 2})
    assert net_costs(small_batch, data) == {**costs, "effective_batch_size": 2}


@pytest.mark.parametrize("name", ["benchmark", "cnn", "p4m"])
@pytest.mark.parametrize(
    "hparams", [{}, {"input_size": 64}, {"adaptation": "frozen", "classifier": "mlp"}]
)
def test_a_small_network_has_the_flops_of_the_meta_device_and_draws_no_number(
    name: str, hparams: Hparams, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = constant_patches(50)
    config = replace(small_config(), hparams={"architecture": name, **hparams})
    cost_measurement._network_size.cache_clear()
    state = torch.get_rng_state()
    costs = net_costs(config, data)
    assert torch.equal(torch.get_rng_state(), state)
    monkeypatch.setattr(cost_measurement, "SMALL_ARCHITECTURES", ())
    cost_measurement._network_size.cache_clear()
    assert net_costs(config, data) == costs


@pytest.mark.parametrize(
    ("name", "side", "hparams"),
    [("resnet18", 50, {}), ("cnn", 512, {"width": 256}), ("cnn", 50, {"width": 256})],
)
def test_a_large_network_computes_nothing_to_be_counted(
    name: str, side: int, hparams: Hparams, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices: set[str] = set()
    build_network = networks.build_network

    def recording_build(*arguments: Any) -> nn.Module:
        net = build_network(*arguments)
        devices.update(parameter.device.type for parameter in net.parameters())
        return net

    monkeypatch.setattr(cost_measurement, "build_network", recording_build)
    cost_measurement._network_size.cache_clear()
    config = replace(small_config(), hparams={"architecture": name, "input_size": side, **hparams})
    assert net_costs(config, constant_patches(50))["flops"] > 1e6
    assert devices == {"meta"}


@pytest.mark.parametrize("classifier", CLASSIFIERS)
@pytest.mark.parametrize("architecture", ["cnn", "resnet18"])
def test_a_frozen_network_is_counted_with_its_classifier(
    classifier: str, architecture: str
) -> None:
    hparams = {"architecture": architecture, "adaptation": "frozen", "classifier": classifier}
    config = replace(small_config(), hparams=hparams)
    assert net_costs(config, constant_patches(50))["flops"] > 1e5


def test_a_network_is_counted_once_in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    widths: list[int] = []
    build_network = networks.build_network

    def recording_build(
        name: str, shape: PatchShape, num_classes: int, hparams: Hparams, encoder: Encoder | None
    ) -> nn.Module:
        widths.append(int(hparams["width"]))
        return build_network(name, shape, num_classes, hparams, encoder)

    monkeypatch.setattr(cost_measurement, "build_network", recording_build)
    data = constant_patches(31)
    costs = net_costs(small_config(), data)
    assert net_costs(small_config(learning_rate=0.1, optimizer="sgd"), data) == costs
    assert widths == [4]
    assert net_costs(small_config(width=8), data)["parameters"] > costs["parameters"]
    assert widths == [4, 8]


def test_the_effective_batch_size_includes_micro_batches_and_is_at_most_the_training_rows() -> None:
    data = constant_patches(8)
    extended = replace(data, auxiliary=(AuxiliaryRows(data.pixels[:7], data.labels[:7]),))
    for rows, config, batch_size in (
        (data, small_config(batch_size=16), 16),
        (data, replace(small_config(batch_size=16), accumulate=4), 16),
        (data, small_config(batch_size=64), 20),
        (extended, small_config(batch_size=64), 27),
        (extended, small_config(batch_size=64, auxiliary_weight=0.0), 20),
    ):
        assert net_costs(config, rows)["effective_batch_size"] == batch_size


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"parameters": 10.0}, "parameters 438 above 10"),
        ({"parameters": 1e6, "inference_ms": 1e6}, None),
    ],
)
def test_a_network_above_a_limit_is_reported_with_its_value(
    limits: Mapping[str, float], message: str | None
) -> None:
    config = small_config(stages=2)
    assert exceeded_limit(config, constant_patches(16), limits) == message


def test_the_time_of_nearest_neighbors_includes_the_comparisons_with_the_training_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    num_compared = []
    forward = NearestNeighborsHead.forward

    def recording_forward(head: NearestNeighborsHead, features: torch.Tensor) -> torch.Tensor:
        num_compared.append(len(head.rows))
        return forward(head, features)

    monkeypatch.setattr(NearestNeighborsHead, "forward", recording_forward)
    config = small_config(adaptation="frozen", classifier="nearest_neighbors", num_neighbors=3)
    data = constant_patches(16)
    limits = {"inference_ms": 1e6, "parameters": 1e6}
    assert exceeded_limit(config, data, limits) is None
    extended = replace(data, auxiliary=(AuxiliaryRows(data.pixels[:7], data.labels[:7]),))
    assert exceeded_limit(config, extended, limits) is None
    assert set(num_compared) == {20, 27}
    message = exceeded_limit(config, data, {"inference_ms": 1e-6})
    assert message is not None
    assert message.startswith("inference_ms ")


def test_the_peak_memory_does_not_include_an_earlier_training() -> None:
    device = torch.device("cpu")
    if not (cost_measurement.PROCESS / "clear_refs").exists():
        pytest.skip("this system cannot reset the peak")
    reset_peak_memory(device)
    before = peak_memory(device)["peak_rss_bytes"]
    array = np.ones(256 << 20, np.uint8)
    num_bytes = array.nbytes
    peak = peak_memory(device)["peak_rss_bytes"]
    assert peak - before > 0.9 * num_bytes
    del array
    assert peak - peak_memory(device)["peak_rss_bytes"] < 0.1 * num_bytes  # counted roughly
    reset_peak_memory(device)
    assert peak - peak_memory(device)["peak_rss_bytes"] > 0.9 * num_bytes


def test_a_system_without_proc_reports_no_peak(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cost_measurement, "PROCESS", tmp_path / "none")
    reset_peak_memory(torch.device("cpu"))
    assert peak_memory(torch.device("cpu")) == {}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_the_peak_memory_of_a_gpu_is_that_of_its_tensors() -> None:
    device = torch.device("cuda")
    reset_peak_memory(device)
    before = peak_memory(device)["peak_device_bytes"]
    tensor = torch.ones(64 << 20, dtype=torch.uint8, device=device)
    assert peak_memory(device)["peak_device_bytes"] - before >= tensor.numel()
    del tensor
    reset_peak_memory(device)
    assert peak_memory(device)["peak_device_bytes"] == before
