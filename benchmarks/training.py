"""Patches a second of a training epoch, against a plain PyTorch loop and the net's own limit.

    uv run python benchmarks/training.py --architectures cnn benchmark
    uv run python benchmarks/training.py --gpu-study

Peer: a tutorial's loop over the same patches, decoded and in memory, in a process of its own
(`plain_loop.py`). Limit: the net's own forward, backward and optimizer step on one batch in place,
in the precision and memory format that ours has (`Limit`). The arms take turns, in every order;
each ratio is the median over the rounds.
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

from plain_loop import Apart, drawn
from raysearch.errors import SpaceError
from raysearch.models.architectures import ARCHITECTURES, build
from raysearch.training.components import OPTIMIZERS
from raysearch.training.fold_training import FoldRun
from raysearch.training.loop import train
from raysearch.training.memory import retain_allocator_memory
from raysearch.training.numerics import choose_numerics
from raysearch.training.train_config import TrainConfig
from raysearch.training.training_data import TrainingData

OF_LIMIT, OF_PLAIN = 0.9, 1.5
BEATS_PLAIN = ("cnn", "benchmark")
# Short rounds, and many: what else the machine does then meets all arms alike.
MAX_EPOCHS, ROUND_S = 10_000, 0.5
IDC_ROWS, FOLDS, EPOCHS = 277_524, 5, 8
GPU_SECONDS = 60
Arm = Callable[[int], float]


def config_of(architecture: str, data: TrainingData, batch_size: int, epochs: int) -> TrainConfig:
    """As a trial has it, in the numerics that a study would choose."""
    hparams = {"architecture": architecture, "batch_size": batch_size}
    numerics = choose_numerics(architecture, {}, data.shape, 2, data.device)
    return TrainConfig(hparams, epochs, "auroc", 0, numerics)


class Limit:
    """Forward, backward and step on one batch that lies there normalised: nothing is faster."""

    def __init__(self, config: TrainConfig, data: TrainingData) -> None:
        torch.manual_seed(0)
        self.numerics, self.device = config.numerics, data.device
        net = build(config.architecture, data.shape, 2, {})
        self.model = self.numerics.place(net, data.device)
        self.optimizer = OPTIMIZERS["adamw"](self.model.parameters())
        height, width, channels = data.shape
        batch = torch.randn(config.batch_size, channels, height, width, device=data.device)
        self.batch = batch.contiguous(memory_format=self.numerics.layout)
        self.labels = data.labels[: config.batch_size]

    def __call__(self, rows: int) -> float:
        """Seconds of as many steps as `rows` patches take."""
        self.model.train()
        began = time.perf_counter()
        for _ in range(max(1, round(rows / len(self.labels)))):
            self.optimizer.zero_grad()
            with self.numerics.autocast(self.device):
                logits = self.model(self.batch)
            nn.functional.cross_entropy(logits.float(), self.labels).backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter() - began


class Ours:
    """An epoch of a trial's fold."""

    def __init__(self, config: TrainConfig, data: TrainingData) -> None:
        self.run, self.epoch = FoldRun(config, data, 0), 0
        self.every = self.run.rows

    def __call__(self, rows: int) -> float:
        """Seconds of an epoch over `rows` patches; its loss is read at its end."""
        self.run.rows = self.every[:rows]
        self.epoch += 1
        began = time.perf_counter()
        self.run.learn(self.epoch)
        return time.perf_counter() - began


@dataclass(frozen=True)
class Found:
    """The medians of one architecture: patches a second, and ratios of the same round."""

    architecture: str
    numerics: str
    ours: float
    plain: float
    limit: float
    of_plain: float
    of_limit: float

    @property
    def passed(self) -> bool:
        """Whether it meets its goals."""
        beats = self.of_plain >= OF_PLAIN or self.architecture not in BEATS_PLAIN
        return beats and self.of_limit >= OF_LIMIT


def compare(architecture: str, data: TrainingData, asked: argparse.Namespace) -> Found:
    """The three arms in turn, so often as is asked for, on rows that take the limit some time."""
    config = config_of(architecture, data, asked.batch_size, MAX_EPOCHS)
    ours, plain, limit = Ours(config, data), Apart(config, asked), Limit(config, data)
    few = 2 * asked.batch_size
    limit(few)
    batches = max(2, round(few * asked.seconds / limit(few) / asked.batch_size))
    rows = min(batches * asked.batch_size, len(data.labels) // asked.batch_size * asked.batch_size)
    ours(few)
    plain(rows)
    rounds = []
    orders: list[tuple[Arm, ...]] = list(permutations((ours, limit, plain)))
    for order in islice(cycle(orders), asked.rounds):
        took = {arm: arm(rows) for arm in order}
        rounds.append([rows / took[arm] for arm in (ours, plain, limit)])
    plain.close()
    speeds = (statistics.median(column) for column in zip(*rounds, strict=True))
    mine, theirs, most = speeds
    return Found(
        architecture,
        f"{config.numerics.precision} {config.numerics.memory_format}",
        mine,
        theirs,
        most,
        of_plain=statistics.median(one[0] / one[1] for one in rounds),
        of_limit=statistics.median(one[0] / one[2] for one in rounds),
    )


def table(found: list[Found]) -> str:
    """The medians, a line an architecture."""
    head = ("architecture", "precision, memory", "ours/s", "plain/s", "limit/s", "plain", "limit")
    lines = [head] + [
        (
            *(one.architecture, one.numerics),
            *(f"{speed:,.0f}" for speed in (one.ours, one.plain, one.limit)),
            *(f"{one.of_plain:.2f}", f"{one.of_limit:.3f}"),
        )
        for one in found
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True))
        for line in lines
    )


def gpu_study(asked: argparse.Namespace) -> dict[str, Any]:
    """Seconds of the folds and epochs of the small CNN, judged and measured after each epoch."""
    if not torch.cuda.is_available():
        sys.exit("--gpu-study needs a GPU, and torch sees none here; leave it out on this machine")
    data = drawn(IDC_ROWS, asked.size, FOLDS, torch.device("cuda"))
    config = config_of("cnn", data, asked.batch_size, EPOCHS)
    began = time.perf_counter()
    train(config, data, lambda done, *_more: print(done.epoch, round(done.seconds, 2)))
    took = time.perf_counter() - began
    return {"benchmark": "training_gpu_study", "value": round(took, 1), "unit": "s"} | {
        "peer": None,
        "ratio": None,
        "goal": f"< {GPU_SECONDS}",
        "pass": took < GPU_SECONDS,
    }


def arguments() -> argparse.Namespace:
    """What was asked for on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--architectures", nargs="+", default=list(ARCHITECTURES))
    parser.add_argument("--size", type=int, default=50, help="side of a patch, in pixels")
    parser.add_argument("--rows", type=int, default=16_384, help="patches in memory")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--quick", action="store_true", help="6 rounds, not 24")
    parser.add_argument("--gpu-study", action="store_true")
    asked = parser.parse_args()
    asked.rounds, asked.seconds = 6 if asked.quick else 24, ROUND_S
    return asked


def main() -> None:
    asked = arguments()
    torch.set_num_threads(asked.threads)
    retain_allocator_memory()
    if asked.gpu_study:
        print(json.dumps(gpu_study(asked)))
        return
    data = drawn(asked.rows, asked.size, 1, torch.device(asked.device))
    found = []
    for architecture in asked.architectures:
        try:
            found.append(compare(architecture, data, asked))
        except SpaceError as rejection:
            sys.stderr.write(f"{rejection}\n")
            continue
        sys.stderr.write(f"{table(found[-1:])}\n")
    if not found:
        sys.exit(2)
    print(table(found))
    first = found[0]
    print(
        json.dumps(
            {
                "benchmark": "training",
                "value": round(first.ours),
                "unit": f"patches/s of {first.architecture}",
                "peer": round(first.plain),
                "ratio": round(first.of_plain, 2),
                "goal": f"{OF_PLAIN} for {' and '.join(BEATS_PLAIN)}; {OF_LIMIT} of the limit",
                "pass": all(one.passed for one in found),
            }
        )
    )


if __name__ == "__main__":
    main()
