"""Training throughput against a plain PyTorch loop and the network's own limit.

    .venv/bin/python benchmarks/training.py --architectures cnn benchmark
    .venv/bin/python benchmarks/training.py --gpu-study

Peer: the loop of a tutorial over the same patches, decoded and in memory, in a process of its own
(`plain_loop.py`). Limit: forward pass, backward pass and optimizer step of the network on one batch
in place, in the same precision and memory format (`NetworkLimit`). The three are measured in turn,
in every order; each ratio is the median over the rounds.
With --gpu-study: the seconds of 5 folds of 8 epochs of the small CNN over as many patches as IDC
has. Neither needs Ray, Optuna, MLflow or pyarrow.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle, islice, permutations
from typing import Any

import torch
from torch import nn

from plain_loop import BenchmarkSetup, PlainLoopProcess, synthetic_data
from raysearch.config.hyperparameter_spec import Hparams
from raysearch.config.hyperparameters import resolve
from raysearch.errors import SpaceError
from raysearch.models.architectures import ARCHITECTURES
from raysearch.models.architectures.networks import build_network
from raysearch.training.components import OPTIMIZERS
from raysearch.training.fold_training import FoldTrainer
from raysearch.training.loop import FoldEpoch, train
from raysearch.training.memory import retain_allocator_memory
from raysearch.training.precision_choice import choose_precision
from raysearch.training.train_config import TrainConfig
from raysearch.training.training_data import TrainingData

LIMIT_GOAL, PLAIN_GOAL = 0.9, 1.5
ARCHITECTURES_WITH_PLAIN_GOAL = ("cnn", "benchmark")
# Many short rounds: other load of the machine affects all measurements alike.
MAX_EPOCHS, ROUND_S = 10_000, 0.5
NUM_ROUNDS, NUM_QUICK_ROUNDS = 24, 6
IDC_ROWS, FOLDS, EPOCHS = 277_524, 5, 8
GPU_GOAL_S = 60
Measurement = Callable[[int], float]


def make_config(architecture: str, data: TrainingData, batch_size: int, epochs: int) -> TrainConfig:
    """Return the configuration of a trial, with the precision settings that a study chooses."""
    hparams: Hparams = {"architecture": architecture, "batch_size": batch_size}
    settings = choose_precision(architecture, {}, data.shape, 2, data.device)
    return TrainConfig(hparams, epochs, "auroc", 0, settings)


class NetworkLimit:
    """Forward pass, backward pass and step on one normalized batch: the upper limit."""

    def __init__(self, config: TrainConfig, data: TrainingData) -> None:
        torch.manual_seed(0)
        self.settings, self.device = config.precision_settings, data.device
        net = build_network(config.architecture, data.shape, 2, {})
        self.model = self.settings.to_device(net, data.device)
        self.optimizer = OPTIMIZERS["adamw"](
            self.model.parameters(), **resolve({}).arguments_of("optimizer")
        )
        height, width, channels = data.shape
        batch = torch.randn(config.batch_size, channels, height, width, device=data.device)
        self.batch = batch.contiguous(memory_format=self.settings.torch_memory_format)
        self.labels = data.labels[: config.batch_size]

    def __call__(self, num_rows: int) -> float:
        """Return the seconds of the steps for `num_rows` patches."""
        self.model.train()
        start = time.perf_counter()
        for _ in range(max(1, round(num_rows / len(self.labels)))):
            self.optimizer.zero_grad()
            with self.settings.autocast(self.device):
                logits = self.model(self.batch)
            nn.functional.cross_entropy(logits.float(), self.labels).backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter() - start


class RaysearchEpoch:
    """An epoch of the fold of a trial."""

    def __init__(self, config: TrainConfig, data: TrainingData) -> None:
        self.trainer, self.epoch = FoldTrainer(config, data, 0), 0
        self.all_rows = self.trainer.epoch_indices

    def __call__(self, num_rows: int) -> float:
        """Return the seconds of an epoch over `num_rows` patches; its loss is read at its end."""
        self.trainer.epoch_indices = self.all_rows[:num_rows]
        self.epoch += 1
        start = time.perf_counter()
        self.trainer.train_epoch(self.epoch)
        return time.perf_counter() - start


@dataclass(frozen=True)
class Throughput:
    """The median patches per second of an architecture, and the median ratios of a round."""

    architecture: str
    precision: str
    raysearch: float
    plain: float
    limit: float
    plain_ratio: float
    limit_ratio: float

    @property
    def passed(self) -> bool:
        """Whether the goals are met."""
        meets_plain_goal = (
            self.plain_ratio >= PLAIN_GOAL or self.architecture not in ARCHITECTURES_WITH_PLAIN_GOAL
        )
        return meets_plain_goal and self.limit_ratio >= LIMIT_GOAL


def measure_throughput(
    architecture: str, data: TrainingData, setup: BenchmarkSetup, num_rounds: int
) -> Throughput:
    """Measure raysearch, the plain loop and the limit in turn, on rows that take `ROUND_S`."""
    batch_size = setup.batch_size
    config = make_config(architecture, data, batch_size, MAX_EPOCHS)
    raysearch, limit = RaysearchEpoch(config, data), NetworkLimit(config, data)
    plain = PlainLoopProcess(config, setup)
    warmup_rows = 2 * batch_size
    limit(warmup_rows)
    num_batches = max(2, round(warmup_rows * ROUND_S / limit(warmup_rows) / batch_size))
    num_rows = min(num_batches * batch_size, len(data.labels) // batch_size * batch_size)
    raysearch(warmup_rows)
    plain(num_rows)
    rounds = []
    orders: list[tuple[Measurement, ...]] = list(permutations((raysearch, limit, plain)))
    for order in islice(cycle(orders), num_rounds):
        seconds = {measurement: measurement(num_rows) for measurement in order}
        rounds.append([num_rows / seconds[each] for each in (raysearch, plain, limit)])
    plain.close()
    medians = [statistics.median(column) for column in zip(*rounds, strict=True)]
    return Throughput(
        architecture,
        f"{config.precision_settings.precision} {config.precision_settings.memory_format}",
        raysearch=medians[0],
        plain=medians[1],
        limit=medians[2],
        plain_ratio=statistics.median(speeds[0] / speeds[1] for speeds in rounds),
        limit_ratio=statistics.median(speeds[0] / speeds[2] for speeds in rounds),
    )


def table(results: list[Throughput]) -> str:
    """Return the medians as text, one line per architecture."""
    head = ("architecture", "precision", "raysearch/s", "plain/s", "limit/s", "plain", "limit")
    lines = [head] + [
        (
            *(result.architecture, result.precision),
            *(f"{speed:,.0f}" for speed in (result.raysearch, result.plain, result.limit)),
            *(f"{result.plain_ratio:.2f}", f"{result.limit_ratio:.3f}"),
        )
        for result in results
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True))
        for line in lines
    )


def gpu_study(size: int, batch_size: int) -> dict[str, Any]:
    """Time the folds and epochs of the small CNN, validated after each epoch."""
    if not torch.cuda.is_available():
        sys.exit("--gpu-study needs a GPU, and torch sees none here; leave it out on this machine")
    data = synthetic_data(IDC_ROWS, size, FOLDS, torch.device("cuda"))
    config = make_config("cnn", data, batch_size, EPOCHS)

    def print_progress(fold_epoch: FoldEpoch, *_scores_and_state: object) -> None:
        print(fold_epoch.epoch, round(fold_epoch.seconds, 2))

    start = time.perf_counter()
    train(config, data, print_progress)
    seconds = time.perf_counter() - start
    return {"benchmark": "training_gpu_study", "value": round(seconds, 1), "unit": "s"} | {
        "peer": None,
        "ratio": None,
        "goal": f"< {GPU_GOAL_S}",
        "pass": seconds < GPU_GOAL_S,
    }


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--architectures", nargs="+", default=list(ARCHITECTURES))
    parser.add_argument("--size", type=int, default=50, help="side of a patch, in pixels")
    parser.add_argument("--rows", type=int, default=16_384, help="patches in memory")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument(
        "--quick", action="store_true", help=f"{NUM_QUICK_ROUNDS} rounds, not {NUM_ROUNDS}"
    )
    parser.add_argument("--gpu-study", action="store_true")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    retain_allocator_memory()
    if arguments.gpu_study:
        print(json.dumps(gpu_study(arguments.size, arguments.batch_size)))
        return
    setup = BenchmarkSetup(
        num_rows=arguments.rows,
        size=arguments.size,
        device=arguments.device,
        batch_size=arguments.batch_size,
        num_threads=arguments.threads,
    )
    data = synthetic_data(setup.num_rows, setup.size, 1, torch.device(setup.device))
    num_rounds = NUM_QUICK_ROUNDS if arguments.quick else NUM_ROUNDS
    results = []
    for architecture in arguments.architectures:
        try:
            results.append(measure_throughput(architecture, data, setup, num_rounds))
        except SpaceError as error:
            sys.stderr.write(f"{error}\n")
            continue
        sys.stderr.write(f"{table(results[-1:])}\n")
    if not results:
        sys.exit(2)
    print(table(results))
    first = results[0]
    plain_goals = " and ".join(ARCHITECTURES_WITH_PLAIN_GOAL)
    print(
        json.dumps(
            {
                "benchmark": "training",
                "value": round(first.raysearch),
                "unit": f"patches/s of {first.architecture}",
                "peer": round(first.plain),
                "ratio": round(first.plain_ratio, 2),
                "goal": f"{PLAIN_GOAL} for {plain_goals}; {LIMIT_GOAL} of the limit",
                "pass": all(result.passed for result in results),
            }
        )
    )


if __name__ == "__main__":
    main()
