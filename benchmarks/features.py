"""Frozen features: the rate of their computation, and the memory of trials that read them.

    RAYSEARCH_WEIGHTS=... .venv/bin/python benchmarks/features.py rate
    .venv/bin/python benchmarks/features.py memory

`rate`: patches per second of MobileNetV2 with ImageNet's weights at 96 pixels, from stored pixels
to features in the cache. Peer: the forward pass of the same network on resized, normalized batches
in memory. Both run in turn; the ratio is the median over the rounds.
`memory`: four processes train a linear classifier of 100,000 patches with 1,024 features each.
Value: the largest private memory of a process at its peak, in units of the float32 training rows of
a fold. Peer: the proportional set sizes (PSS) of the mapped features over the four, in units of
their file.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import torch

from plain_loop import synthetic_data
from raysearch.config.hyperparameter_spec import Hparams
from raysearch.models.architectures.networks import build_extractor
from raysearch.models.transfer.input_size import resized
from raysearch.models.transfer.pretrained_weights import weights_hash
from raysearch.training.batches import normalized_batch
from raysearch.training.features.extraction import BATCH_SIZE, PatchFeatures
from raysearch.training.features.feature_request import FeatureRequest
from raysearch.training.features.feature_store import load_features
from raysearch.training.features.feature_training import FeatureTrainer
from raysearch.training.train_config import TrainConfig
from raysearch.training.training_data import TrainingData

RATE_GOAL, PRIVATE_GOAL, PSS_GOAL = 0.9, 2.2, 1.1
NUM_ROUNDS, NUM_PATCHES, PATCH_SIDE, INPUT_SIZE = 7, 512, 50, 96
NUM_ROWS, WIDTH, NUM_FOLDS, NUM_TRIALS = 100_000, 1024, 3, 4
POLL_S = 0.02


def measure_rate() -> dict[str, object]:
    """Compute features, and run the network alone, in turn."""
    hparams: Hparams = {
        "architecture": "mobilenet_v2",
        "weights": "imagenet",
        "input_size": INPUT_SIZE,
        "adaptation": "frozen",
        "augment": "none",
    }
    content_hash = weights_hash("mobilenet_v2", "imagenet")
    config = TrainConfig(hparams, 1, "auroc", 0, weights_hash=content_hash)
    data = synthetic_data(NUM_PATCHES, PATCH_SIDE, 1, torch.device("cpu"))
    shape = (INPUT_SIZE, INPUT_SIZE, 3)
    network = build_extractor("mobilenet_v2", shape, 2, hparams, content_hash)
    batch = normalized_batch(data.pixels[:BATCH_SIZE], data.shape)
    batch = resized(batch, INPUT_SIZE, "bilinear")
    rates, limits = [], []
    for number in range(NUM_ROUNDS + 1):
        start = time.perf_counter()
        load_features(FeatureRequest(config, data.pixels, data.shape, f"round-{number}"))
        rates.append(NUM_PATCHES / (time.perf_counter() - start))
        start = time.perf_counter()
        with torch.inference_mode():
            for _batch in range(NUM_PATCHES // BATCH_SIZE):
                network(batch)
        limits.append(NUM_PATCHES / (time.perf_counter() - start))
    # The first round allocates memory.
    ratios = [rate / limit for rate, limit in zip(rates[1:], limits[1:], strict=True)]
    ratio = statistics.median(ratios)
    return {
        "benchmark": "features-rate",
        "value": round(statistics.median(rates[1:]), 1),
        "unit": "patches/s",
        "peer": round(statistics.median(limits[1:]), 1),
        "ratio": round(ratio, 3),
        "goal": RATE_GOAL,
        "pass": ratio >= RATE_GOAL,
    }


def measure_memory() -> dict[str, object]:
    """Train four classifiers side by side, and read the memory of their processes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "features.npy"
        shape = (NUM_ROWS, 1, WIDTH)
        values = np.lib.format.open_memmap(path, "w+", np.float16, shape)
        rng = np.random.default_rng(0)
        for start in range(0, NUM_ROWS, 10_000):
            values[start : start + 10_000] = rng.normal(size=(10_000, 1, WIDTH))
        values.flush()
        del values
        context = multiprocessing.get_context("spawn")
        barrier, queue = context.Barrier(NUM_TRIALS), context.Queue()
        processes = [
            context.Process(target=_train, args=(str(path), number, barrier, queue))
            for number in range(NUM_TRIALS)
        ]
        for process in processes:
            process.start()
        results = [queue.get() for _process in processes]
        for process in processes:
            process.join()
        file_bytes = path.stat().st_size
    fold_bytes = NUM_ROWS * (NUM_FOLDS - 1) // NUM_FOLDS * WIDTH * 4
    private = max(result[0] for result in results) / fold_bytes
    pss = sum(result[1] for result in results) / file_bytes
    return {
        "benchmark": "features-memory",
        "value": round(private, 2),
        "unit": "private bytes per byte of a fold's float32 rows",
        "peer": round(pss, 2),
        "ratio": round(private / PRIVATE_GOAL, 2),
        "goal": f"{PRIVATE_GOAL} private, {PSS_GOAL} files of mapped pages",
        "pass": private <= PRIVATE_GOAL and pss <= PSS_GOAL,
    }


def _train(path: str, number: int, barrier, queue) -> None:  # type: ignore[no-untyped-def]
    """Train one epoch of a linear classifier; report its private memory and its mapped pages."""
    torch.set_num_threads(1)
    rows = np.arange(NUM_ROWS)
    is_validated = rows % NUM_FOLDS == 0
    data = TrainingData(
        torch.zeros(1, 3, dtype=torch.uint8).expand(NUM_ROWS, 3),
        torch.from_numpy(rows % 2),
        rows.astype(np.str_),
        (1, 1, 3),
        ("negative", "positive"),
        ((rows[~is_validated], rows[is_validated]),),
    )
    hparams: Hparams = {
        "architecture": "mobilenet_v2",
        "adaptation": "frozen",
        "augment": "none",
        "classifier": "linear",
        "feature_passes": 1,
        "batch_size": 256,
    }
    features = PatchFeatures(np.load(path, mmap_mode="c"), 0.0)
    before, peak = _private_bytes(), _Peak()
    barrier.wait()
    trainer = FeatureTrainer(TrainConfig(hparams, 1, "auroc", number), data, 0, [features])
    trainer.train_epoch(0)
    trainer.validate(use_tta=False)
    private = peak.stop() - before
    barrier.wait()  # all have read all features, and none has ended
    pss = _mapped_bytes(path)
    barrier.wait()
    queue.put((private, pss))


class _Peak:
    """Follows the private memory of this process."""

    def __init__(self) -> None:
        self._largest, self._stopped = 0, threading.Event()
        self._thread = threading.Thread(target=self._follow)
        self._thread.start()

    def _follow(self) -> None:
        while not self._stopped.wait(POLL_S):
            self._largest = max(self._largest, _private_bytes())

    def stop(self) -> int:
        """Return the largest number of bytes so far."""
        self._stopped.set()
        self._thread.join()
        return self._largest


def _private_bytes() -> int:
    """The anonymous memory of this process, which no other one shares."""
    match = re.search(r"^RssAnon:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(match[1]) * 1024 if match else 0


def _mapped_bytes(path: str) -> int:
    """The proportional set size of the pages of a mapped file."""
    total, is_inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            is_inside = line.endswith(path)
        elif is_inside and line.startswith("Pss:"):
            total += int(line.split()[1]) * 1024
    return total


def main() -> None:
    """Measure what the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("rate", "memory"))
    what = parser.parse_args().what
    with tempfile.TemporaryDirectory() as cache:
        os.environ["RAYSEARCH_CACHE"] = cache
        result = measure_rate() if what == "rate" else measure_memory()
    print(json.dumps(result))
    sys.exit(not result["pass"])


if __name__ == "__main__":
    main()
