"""Measures the costs of a network: parameters, FLOPs, inference time, memory; and their limits."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from raysearch.config.hyperparameter_readers import network_hparams
from raysearch.config.hyperparameter_spec import Value
from raysearch.models import PatchShape, timed_shape
from raysearch.models.architectures import ARCHITECTURES
from raysearch.models.architectures.networks import build_network
from raysearch.models.architectures.torchvision_models import TORCHVISION_MODELS
from raysearch.models.encoders.encoder import Encoder
from raysearch.models.transfer.feature_heads import NearestNeighborsHead
from raysearch.training.eager_execution import mark_eager
from raysearch.training.memory import trim_allocator_memory
from raysearch.training.train_config import TrainConfig
from raysearch.training.training_data import TrainingData

# The patches of a timed batch, and the number of timed batches.
TIMED_BATCH_SIZE, NUM_TIMED_BATCHES = 64, 5
PROCESS = Path("/proc/self")
# Written to `clear_refs` of a process, it resets the peak of its resident memory (man 5 proc).
RESET_PEAK = "5"


def net_costs(config: TrainConfig, data: TrainingData) -> dict[str, int]:
    """Return the costs of a training that are fixed before it starts.

    Returns:
        `effective_batch_size`: the rows of a step, over all its micro-batches. `parameters`: the
        number of parameters. `flops`: the floating-point operations of the forward pass of a patch,
        as counted by PyTorch for convolutions, matrix products and attention; a multiply-add is
        two.
    """
    names = network_hparams(config.architecture) | {"normalization", "weights"}
    hparams = tuple(sorted((name, config.hparams[name]) for name in names & config.hparams.keys()))
    num_parameters, flops = _network_size(
        config.architecture, data.shape, len(data.class_names), hparams, config.encoder
    )
    return {
        "effective_batch_size": min(config.batch_size, _max_train_rows(config, data)),
        "parameters": num_parameters,
        "flops": flops,
    }


@lru_cache(256)
def _network_size(
    name: str,
    shape: PatchShape,
    num_classes: int,
    hparams: tuple[tuple[str, Value], ...],
    encoder: Encoder | None,
) -> tuple[int, int]:
    """Return the parameters and the FLOPs of a network, counted on the meta device.

    The count of a large network takes a second; it is cached for the trials of this process. The
    small networks of this project compute a batch on the CPU instead: for their operations on the
    meta device, torch would import its compiler. Libraries of large networks import it anyway, and
    on the CPU torch does not count all kinds of attention.
    """
    height, width, channels = shape
    is_small = name in ARCHITECTURES and name not in TORCHVISION_MODELS
    device = "cpu" if is_small else "meta"
    with torch.random.fork_rng(devices=[]), torch.device(device), torch.inference_mode():
        net = build_network(name, shape, num_classes, dict(hparams), encoder).eval()
        # The counter registers hooks on gradients, which some networks do not support.
        net.requires_grad_(False)
        with FlopCounterMode(display=False) as counter:
            mark_eager(type(counter.mode).__torch_dispatch__)
            net(torch.empty(1, channels, height, width))
    return _num_parameters(net), counter.get_total_flops()


def _max_train_rows(config: TrainConfig, data: TrainingData) -> int:
    """Return the number of training rows of the largest fold."""
    num_auxiliary = sum(len(auxiliary.labels) for auxiliary in data.auxiliary)
    num_rows = max(len(train_indices) for train_indices, _val_indices in data.folds)
    return num_rows + (num_auxiliary if config.params.auxiliary_weight else 0)


def exceeded_limit(
    config: TrainConfig, data: TrainingData, limits: Mapping[str, float]
) -> str | None:
    """Return which of `limits`, by metric, the network exceeds; None if it exceeds none."""
    num_classes = len(data.class_names)
    net = build_network(
        config.architecture, data.shape, num_classes, config.hparams, config.encoder
    )
    for metric, limit in limits.items():
        value = LIMITED_METRICS[metric](net, config, data)
        if value > limit:
            return f"{metric} {value:,.6g} above {limit:,.6g}"
    return None


def _num_parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def inference_ms(net: nn.Module, config: TrainConfig, data: TrainingData) -> float:
    """Return the median inference time of a patch in milliseconds, in batches of 64.

    A classifier by nearest neighbors compares each patch with as many rows as the largest fold has.
    """
    for module in net.modules():
        if isinstance(module, NearestNeighborsHead):
            module.set_num_rows(_max_train_rows(config, data))
    model = config.precision_settings.to_device(net, data.device).eval()
    height, width, channels = timed_shape(data.shape)
    batch = torch.zeros((TIMED_BATCH_SIZE, channels, height, width), device=data.device)
    batch = batch.contiguous(memory_format=config.precision_settings.torch_memory_format)
    seconds = []
    with torch.inference_mode(), config.precision_settings.autocast(data.device):
        for _batch in range(NUM_TIMED_BATCHES + 1):
            start = time.perf_counter()
            model(batch).float().cpu()  # waits for the device
            seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds[1:]) / TIMED_BATCH_SIZE  # the first batch warms up


LIMITED_METRICS: dict[str, Callable[[nn.Module, TrainConfig, TrainingData], float]] = {
    "parameters": lambda net, _config, _data: float(_num_parameters(net)),
    "inference_ms": inference_ms,
}


def reset_peak_memory(device: torch.device) -> None:
    """Reset the peak that `peak_memory` returns, if the system supports it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    trim_allocator_memory()
    with suppress(OSError):
        (PROCESS / "clear_refs").write_text(RESET_PEAK, encoding="ascii")


def peak_memory(device: torch.device) -> dict[str, int]:
    """Return the peak memory since `reset_peak_memory`, in bytes.

    Returns:
        On a GPU `peak_device_bytes`: the memory of the tensors of this process, which include the
        pixels of the study. On a CPU `peak_rss_bytes`: the resident memory of the process, which
        includes mapped files and memory of earlier trials. Empty if the system does not report it.
    """
    if device.type == "cuda":
        return {"peak_device_bytes": torch.cuda.max_memory_allocated(device)}
    status = PROCESS / "status"
    text = status.read_text(encoding="utf-8") if status.is_file() else ""
    match = re.search(r"^VmHWM:\s*(\d+) kB$", text, re.MULTILINE)
    return {"peak_rss_bytes": int(match[1]) * 1024} if match else {}
