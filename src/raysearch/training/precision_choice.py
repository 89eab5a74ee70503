"""Chooses the precision and the memory format of training by timing a few steps of each."""

from __future__ import annotations

import math
import time
from contextlib import suppress

import torch
from torch import nn

from raysearch.config.hyperparameter_spec import Hparams
from raysearch.config.hyperparameters import resolve
from raysearch.errors import SpaceError
from raysearch.models import PatchShape, timed_shape
from raysearch.models.architectures.networks import build_network
from raysearch.models.transfer.feature_network import FeatureNetwork
from raysearch.models.transfer.lora import with_adapters
from raysearch.training.precision_settings import PrecisionSettings

BATCH_SIZE = 16
# Each candidate is timed for MIN_STEPS, and on until it took TIMED_S or MAX_STEPS.
MIN_STEPS, MAX_STEPS, TIMED_S = 2, 50, 0.2
# Another candidate replaces plain float32 if its time is below this fraction, to be above noise.
MAX_TIME_FRACTION = 0.9
# On a CPU, a candidate whose first step takes so many times the fastest step is not timed further.
# On a GPU, a first step also compiles kernels.
MAX_FIRST_STEP_FACTOR = 5.0
CANDIDATES = tuple(
    PrecisionSettings(precision, memory_format)
    for precision in ("float32", "bfloat16")
    for memory_format in ("contiguous", "channels_last")
)


def choose_precision(
    architecture: str,
    hparams: Hparams,
    shape: PatchShape,
    num_classes: int,
    device: torch.device,
) -> PrecisionSettings:
    """Return the fastest of the `CANDIDATES` for training `architecture` on `device`.

    Of a frozen network, the forward pass is timed. All layers are trained of a network that has no
    adapters for its `lora_targets`, such as the benchmark.

    Plain float32 is returned unless another candidate takes less than nine tenths of its time.
    """

    def build() -> nn.Module:
        torch.manual_seed(0)
        net = build_network(architecture, shape, num_classes, hparams)
        with suppress(SpaceError):
            net = with_adapters(net, params, num_classes)
        return net

    params = resolve({**hparams, "architecture": architecture})
    seconds: dict[PrecisionSettings, float] = {}
    for settings in CANDIDATES:
        fastest_s = min(seconds.values(), default=math.inf)
        seconds[settings] = _seconds_per_step(settings, build(), shape, device, fastest_s)
    default = CANDIDATES[0]
    fastest = min(CANDIDATES, key=lambda settings: seconds[settings])
    return fastest if seconds[fastest] < MAX_TIME_FRACTION * seconds[default] else default


def _seconds_per_step(
    settings: PrecisionSettings,
    net: nn.Module,
    shape: PatchShape,
    device: torch.device,
    fastest_s: float,
) -> float:
    model = settings.to_device(net, device)
    if isinstance(model, FeatureNetwork):
        model.eval()
    height, width, channels = timed_shape(shape)
    batch = torch.zeros(BATCH_SIZE, channels, height, width, device=device)
    batch = batch.contiguous(memory_format=settings.torch_memory_format)
    labels = torch.zeros(BATCH_SIZE, dtype=torch.int64, device=device)
    seconds: list[float] = []
    # The first step is not counted: it allocates memory and compiles kernels.
    while len(seconds) <= MIN_STEPS or (len(seconds) < MAX_STEPS and sum(seconds[1:]) < TIMED_S):
        start = time.perf_counter()
        if isinstance(model, FeatureNetwork):
            with torch.inference_mode(), settings.autocast(device):
                model.extractor(batch)
        else:
            with settings.autocast(device):
                loss = nn.functional.cross_entropy(model(batch).float(), labels)
            loss.backward()  # type: ignore[no-untyped-call]
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
        if device.type == "cpu" and seconds[0] > MAX_FIRST_STEP_FACTOR * fastest_s:
            return seconds[0]
    return min(seconds[1:])
