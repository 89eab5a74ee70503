"""A tutorial's training loop, to measure ours against, and the patches that both are given."""

from __future__ import annotations

import argparse
import multiprocessing
import time
from multiprocessing.connection import Connection

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from raysearch.models.architectures import build
from raysearch.training.train_config import TrainConfig
from raysearch.training.training_data import TrainingData

WORKERS = 2


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

    The workers stay from epoch to epoch, so that their start is not held against it. In a process
    of its own (`Apart`), with the memory settings of any other.
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


def serve(pipe: Connection, config: TrainConfig, asked: argparse.Namespace) -> None:
    """Answer numbers of rows from `pipe` by the seconds of a plain epoch, until it is told 0."""
    torch.set_num_threads(asked.threads)
    plain = Plain(config, drawn(asked.rows, asked.size, 1, torch.device(asked.device)))
    while rows := pipe.recv():
        pipe.send(plain(rows))


class Apart:
    """`Plain` in a process of its own."""

    def __init__(self, config: TrainConfig, asked: argparse.Namespace) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, config, asked))
        self.process.start()

    def __call__(self, rows: int) -> float:
        """Seconds of an epoch over `rows` patches."""
        self.pipe.send(rows)
        return float(self.pipe.recv())

    def close(self) -> None:
        """End the process."""
        self.pipe.send(0)
        self.process.join()
