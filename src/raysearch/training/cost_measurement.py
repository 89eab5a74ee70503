"""What a training costs beside its time: the net's size and work, and memory."""

from __future__ import annotations

import re
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from raysearch.models.architectures import build, net_hparams
from raysearch.models.patch_shape import Shape
from raysearch.training.memory import trim_allocator_memory
from raysearch.training.model_limits import parameters
from raysearch.training.train_config import TrainConfig
from raysearch.training.training_data import TrainingData

PROCESS = Path("/proc/self")
# Written to a process's `clear_refs`, it lets the peak of its memory begin anew (`man 5 proc`).
FORGET = "5"


def net_costs(config: TrainConfig, data: TrainingData) -> dict[str, int]:
    """What is known of a training before it begins.

    `effective_batch_size` is the rows of one step, over all its micro-batches; `parameters` the
    numbers of the net; `flops` those of one patch on its way to the logits, a product and its sum
    being two, as PyTorch counts them: of convolutions, matrix products and attention.
    """
    read = net_hparams(config.architecture) | {"normalization", "weights"}
    hparams = tuple(sorted((name, config.hparams[name]) for name in read & config.hparams.keys()))
    size, flops = _net_size(config.architecture, data.shape, len(data.class_names), hparams)
    return {
        "effective_batch_size": min(config.batch_size, _max_rows(config, data)),
        "parameters": size,
        "flops": flops,
    }


@lru_cache(256)
def _net_size(
    name: str, shape: Shape, classes: int, hparams: tuple[tuple[str, Any], ...]
) -> tuple[int, int]:
    """The parameters of a net, and its FLOPs a patch; nothing is computed, on the meta device.

    Kept for the next trial of the process with the same net: a large one takes a second.
    """
    height, width, channels = shape
    with torch.device("meta"), torch.inference_mode():
        net = build(name, shape, classes, dict(hparams)).eval()
        net.requires_grad_(False)  # the counter hangs hooks on gradients, and some nets break them
        with FlopCounterMode(display=False) as counter:
            net(torch.empty(1, channels, height, width))
    return int(parameters(net)), counter.get_total_flops()


def _max_rows(config: TrainConfig, data: TrainingData) -> int:
    """The rows that the largest fold learns from."""
    further = sum(len(one.labels) for one in data.further)
    own = max(len(learned) for learned, _judged in data.folds)
    return own + (further if config.hyperparameter("auxiliary_weight", 1.0) else 0)


def forget_peak(device: torch.device) -> None:
    """Let the peak that `peak_memory` tells begin anew, where the system allows it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    trim_allocator_memory()
    with suppress(OSError):
        (PROCESS / "clear_refs").write_text(FORGET, encoding="ascii")


def peak_memory(device: torch.device) -> dict[str, int]:
    """The most memory that was held since `forget_peak`, in bytes, by what it is.

    On a GPU `peak_device_bytes`: what this process's tensors took there, the study's pixels among
    them. On a CPU `peak_rss_bytes`: the resident set of the whole process, with all that it mapped
    and kept of earlier trials; empty where the system does not tell it.
    """
    if device.type == "cuda":
        return {"peak_device_bytes": torch.cuda.max_memory_allocated(device)}
    status = PROCESS / "status"
    text = status.read_text(encoding="utf-8") if status.is_file() else ""
    found = re.search(r"^VmHWM:\s*(\d+) kB$", text, re.MULTILINE)
    return {"peak_rss_bytes": int(found[1]) * 1024} if found else {}
