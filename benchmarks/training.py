"""Patches a second of a training epoch, against a plain PyTorch loop and the net's own limit.

    uv run python benchmarks/training.py --architectures cnn benchmark
    uv run python benchmarks/training.py --gpu-study

Peer: a tutorial's loop over the same patches, decoded and in memory (`Plain`). Limit: the net's own
forward, backward and optimizer step on one batch in place, in the precision and memory format that
ours has (`Limit`). The arms take turns on drawn patches; each ratio is the median over the rounds.
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
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from raysearch.models.architectures import ARCHITECTURES, build
from raysearch.training.config import TrainConfig
from raysearch.training.data import TrainingData
from raysearch.training.fold_run import FoldRun
from raysearch.training.loop import train
from raysearch.training.numerics import choose_numerics
from raysearch.training.parts import OPTIMIZERS

OF_LIMIT, OF_PLAIN = 0.9, 1.5
BEATS_PLAIN = ("cnn", "benchmark")
WORKERS, MOST_EPOCHS = 2, 10_000
IDC_ROWS, FOLDS, EPOCHS = 277_524, 5, 8
GPU_SECONDS = 60
Arm = Callable[[int], float]


def drawn(rows: int, size: int, folds: int, device: torch.device) -> TrainingData:
    """Random patches of two classes; those of a fold are judged, or none where there is one."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (rows, size * size * 3), generator=generator, dtype=torch.uint8)
    labels = torch.randint(2, (rows,), generator=generator)
    every = np.arange(rows, dtype=np.int64)
    parts = [(every[every % folds != fold], every[every % folds == fold]) for fold in range(folds)]
    return TrainingData(
        pixels.to(device),
        labels.to(device),
        np.repeat("p", rows),
        (size, size, 3),
        ("0", "1"),
        tuple(parts) if folds > 1 else ((every, every[:0]),),
    )


def config_of(architecture: str, data: TrainingData, batch_size: int, epochs: int) -> TrainConfig:
    """As a trial has it, in the numerics that a study would choose."""
    knobs = {"architecture": architecture, "batch_size": batch_size}
    numerics = choose_numerics(architecture, {}, data.shape, 2, data.device)
    return TrainConfig(knobs, epochs, "auroc", 0, numerics)


class InMemory(Dataset[tuple[Tensor, int]]):
    """Patches as arrays (H, W, 3), each transformed when it is asked for."""

    def __init__(self, patches: NDArray[np.uint8], labels: list[int]) -> None:
        self.patches, self.labels = patches, labels
        self.transform = transforms.Compose(
            [
                transforms.ToTensor(),
                transforms.RandomHorizontalFlip(),
                transforms.RandomVerticalFlip(),
                transforms.Normalize([0.5] * 3, [0.5] * 3),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.patches[index]), self.labels[index]


class Plain:
    """A tutorial's loop: Dataset, DataLoader of two workers, AdamW, `.item()` of each loss.

    The workers stay from epoch to epoch, so that their start is not held against it.
    """

    def __init__(self, config: TrainConfig, data: TrainingData) -> None:
        torch.manual_seed(0)
        self.device, self.size = data.device, config.batch_size
        self.model = build(config.architecture, data.shape, 2, {}).to(data.device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3)
        self.patches = data.pixels.cpu().numpy().reshape(-1, *data.shape)
        self.labels = data.labels.tolist()
        self.loaders: dict[int, DataLoader[tuple[Tensor, int]]] = {}

    def loader(self, rows: int) -> DataLoader[tuple[Tensor, int]]:
        """That of the first `rows` patches."""
        if rows not in self.loaders:
            self.loaders[rows] = DataLoader(
                InMemory(self.patches[:rows], self.labels[:rows]),
                batch_size=self.size,
                shuffle=True,
                num_workers=WORKERS,
                persistent_workers=True,
                pin_memory=self.device.type == "cuda",
            )
        return self.loaders[rows]

    def __call__(self, rows: int) -> float:
        """Seconds of an epoch over `rows` patches."""
        criterion, total = nn.CrossEntropyLoss(), 0.0
        loader = self.loader(rows)
        self.model.train()
        began = time.perf_counter()
        for batch, labels in loader:
            images, targets = batch.to(self.device), labels.to(self.device)
            self.optimizer.zero_grad()
            loss = criterion(self.model(images), targets)
            loss.backward()
            self.optimizer.step()
            total += loss.item() * len(images)
        return time.perf_counter() - began


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
    config = config_of(architecture, data, asked.batch_size, MOST_EPOCHS)
    ours, plain, limit = Ours(config, data), Plain(config, data), Limit(config, data)
    few = 2 * asked.batch_size
    limit(few)
    batches = max(2, round(few * asked.seconds / limit(few) / asked.batch_size))
    rows = min(batches * asked.batch_size, len(data.labels) // asked.batch_size * asked.batch_size)
    for arm in (ours, plain):
        arm(few)
    if plain.loaders:
        plain.loader(rows)
    rounds = []
    for turn in range(asked.rounds):
        arms: list[Arm] = [ours, limit, plain]
        took = {arm: arm(rows) for arm in arms[turn % 3 :] + arms[: turn % 3]}
        rounds.append([rows / took[arm] for arm in (ours, plain, limit)])
    mine, tutorial, most = (statistics.median(column) for column in zip(*rounds, strict=True))
    return Found(
        architecture,
        f"{config.numerics.precision} {config.numerics.memory_format}",
        mine,
        tutorial,
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
    parser.add_argument("--quick", action="store_true", help="3 rounds of a second instead of 7")
    parser.add_argument("--gpu-study", action="store_true")
    asked = parser.parse_args()
    asked.rounds, asked.seconds = (3, 1.0) if asked.quick else (7, 2.0)
    return asked


def main() -> None:
    asked = arguments()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    if asked.gpu_study:
        print(json.dumps(gpu_study(asked)))
        return
    data = drawn(asked.rows, asked.size, 1, torch.device(asked.device))
    found = []
    for architecture in asked.architectures:
        found.append(compare(architecture, data, asked))
        sys.stderr.write(f"{table(found[-1:])}\n")
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
