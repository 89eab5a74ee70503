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
from raysearch.config.hyperparameter_spec import Hparams, Value, is_import_path
from raysearch.config.hyperparameters import resolve
from raysearch.config.names import SMALL_ARCHITECTURES
from raysearch.models import PatchShape, timed_shape
from raysearch.models.architectures.networks import build_network
from raysearch.models.encoders.encoder import Encoder
from raysearch.models.transfer.feature_heads import NearestNeighborsHead
from raysearch.models.transfer.input_size import input_shape
from raysearch.training.eager_execution import mark_eager
from raysearch.training.memory import trim_allocator_memory
from raysearch.training.train_config import TrainConfig
from raysearch.training.training_data import TrainingData

# The patches of a timed batch, and the number of timed batches.
TIMED_BATCH_SIZE, NUM_TIMED_BATCHES = 64, 5
# The pixels of a patch times the squared width of the network, up to which the CPU is fast.
MAX_CPU_SIZE = 2**24
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
    if is_import_path(config.architecture):
        names |= config.hparams.keys()
    hparams = tuple(sorted((name, config.hparams[name]) for name in names & config.hparams.keys()))
    num_rows = _max_train_rows(config, data)
    num_parameters, flops = _network_size(
        config.architecture,
        data.shape,
        len(data.class_names),
        hparams,
        config.encoder,
        num_rows if config.params.classifier == "nearest_neighbors" else 0,
    )
    return {
        "effective_batch_size": min(config.batch_size, num_rows),
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
    num_rows: int,
) -> tuple[int, int]:
    """Return the parameters and the FLOPs of a network.

    The count of a large network takes a second; it is cached for the trials of this process. It is
    made on the meta device, for whose operations torch imports its compiler. Libraries of large
    networks import the compiler anyway. A small network computes one patch on the CPU instead.

    Args:
        name: The architecture.
        shape: The patch shape (H, W, 3).
        num_classes: The number of logits.
        hparams: The hyperparameters of the network, as pairs of name and value.
        encoder: The description of a pretrained encoder.
        num_rows: The training rows that a classifier by nearest neighbors stores.
    """
    height, width, channels = shape
    device = "cpu" if _is_fast_on_cpu(name, shape, dict(hparams)) else "meta"
    with torch.random.fork_rng(devices=[]), torch.device(device), torch.inference_mode():
        net = build_network(name, shape, num_classes, dict(hparams), encoder).eval()
        _set_num_rows(net, num_rows)
        # The counter registers hooks on gradients, which some networks do not support.
        net.requires_grad_(False)
        with FlopCounterMode(display=False) as counter:
            mark_eager(type(counter.mode).__torch_dispatch__)
            net(torch.empty(1, channels, height, width))
    return _num_parameters(net), counter.get_total_flops()


def _is_fast_on_cpu(name: str, shape: PatchShape, hparams: Hparams) -> bool:
    """Return whether a forward pass of one patch takes the CPU less than about a second."""
    if name not in SMALL_ARCHITECTURES:
        return is_import_path(name)  # not every network can be built on the meta device
    params = resolve(hparams)
    height, width, _channels = input_shape(shape, params.input_size, params.resize)
    return height * width * params.width**2 <= MAX_CPU_SIZE


def _set_num_rows(net: nn.Module, num_rows: int) -> None:
    """Let a classifier by nearest neighbors compare each patch with `num_rows` rows."""
    for module in net.modules():
        if isinstance(module, NearestNeighborsHead):
            module.set_num_rows(num_rows)


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
    _set_num_rows(net, _max_train_rows(config, data))
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
