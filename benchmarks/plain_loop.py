"""A plain PyTorch training loop as the peer of benchmarks/training.py, and synthetic patches."""

from __future__ import annotations

import multiprocessing
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from raysearch.models.architectures.networks import build_network
from raysearch.training.train_config import TrainConfig
from raysearch.training.training_data import TrainingData

NUM_WORKERS = 2


@dataclass(frozen=True)
class BenchmarkSetup:
    """The synthetic patches and the resources of a benchmark.

    Attributes:
        num_rows: The number of patches in memory.
        size: The side of a patch in pixels.
        device: The name of the torch device.
        batch_size: The rows of a step.
        num_threads: The threads of a process.
    """

    num_rows: int
    size: int
    device: str
    batch_size: int
    num_threads: int


def synthetic_data(num_rows: int, size: int, num_folds: int, device: torch.device) -> TrainingData:
    """Return random patches of two classes; a single fold has no validation rows."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (num_rows, size * size * 3), generator=generator, dtype=torch.uint8)
    labels = torch.randint(2, (num_rows,), generator=generator)
    rows = np.arange(num_rows, dtype=np.int64)
    folds = tuple(
        (rows[rows % num_folds != fold], rows[rows % num_folds == fold])
        for fold in range(num_folds)
    )
    return TrainingData(
        pixels.to(device),
        labels.to(device),
        np.repeat("p", num_rows),
        (size, size, 3),
        ("0", "1"),
        folds if num_folds > 1 else ((rows, rows[:0]),),
    )


class PatchDataset(Dataset[tuple[Tensor, int]]):
    """Patches in memory as arrays (H, W, 3), transformed one by one."""

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


class PlainLoop:
    """The training loop of a tutorial: DataLoader with two workers, AdamW, `.item()` of each loss.

    The workers persist between epochs, so that their start is not measured.
    """

    def __init__(self, config: TrainConfig, data: TrainingData) -> None:
        torch.manual_seed(0)
        self.device, self.batch_size = data.device, config.batch_size
        self.model = build_network(config.architecture, data.shape, 2, {}).to(data.device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3)
        self.patches = data.pixels.cpu().numpy().reshape(-1, *data.shape)
        self.labels = data.labels.tolist()
        self.loaders: dict[int, DataLoader[tuple[Tensor, int]]] = {}

    def loader(self, num_rows: int) -> DataLoader[tuple[Tensor, int]]:
        """Return the loader of the first `num_rows` patches."""
        if num_rows not in self.loaders:
            self.loaders[num_rows] = DataLoader(
                PatchDataset(self.patches[:num_rows], self.labels[:num_rows]),
                batch_size=self.batch_size,
                shuffle=True,
                num_workers=NUM_WORKERS,
                persistent_workers=True,
                pin_memory=self.device.type == "cuda",
            )
        return self.loaders[num_rows]

    def __call__(self, num_rows: int) -> float:
        """Return the seconds of an epoch over `num_rows` patches."""
        criterion, total_loss = nn.CrossEntropyLoss(), 0.0
        loader = self.loader(num_rows)
        self.model.train()
        start = time.perf_counter()
        for batch, labels in loader:
            images, targets = batch.to(self.device), labels.to(self.device)
            self.optimizer.zero_grad()
            loss = criterion(self.model(images), targets)
            loss.backward()
            self.optimizer.step()
            total_loss += loss.item() * len(images)
        return time.perf_counter() - start


def serve_plain_loop(pipe: Connection, config: TrainConfig, setup: BenchmarkSetup) -> None:
    """Receive numbers of rows from `pipe`, and send the seconds of an epoch; 0 ends the loop."""
    torch.set_num_threads(setup.num_threads)
    data = synthetic_data(setup.num_rows, setup.size, 1, torch.device(setup.device))
    plain_loop = PlainLoop(config, data)
    while num_rows := pipe.recv():
        pipe.send(plain_loop(num_rows))


class PlainLoopProcess:
    """`PlainLoop` in a process of its own, with the default memory settings."""

    def __init__(self, config: TrainConfig, setup: BenchmarkSetup) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, child_pipe = context.Pipe()
        self.process = context.Process(target=serve_plain_loop, args=(child_pipe, config, setup))
        self.process.start()

    def __call__(self, num_rows: int) -> float:
        """Return the seconds of an epoch over `num_rows` patches."""
        self.pipe.send(num_rows)
        return float(self.pipe.recv())

    def close(self) -> None:
        """End the process."""
        self.pipe.send(0)
        self.process.join()
