"""How far the AUROC of one trial is from itself when it is trained again, in several ways.

    uv run python benchmarks/replays.py

Three trials on quickstart's synthetic patches, the first fold, four epochs: the largest difference
of a fold-epoch from the first training, in a new process each. What is alike may be told apart by
nothing; what another machine would do is imitated by fewer instructions, another number of threads,
and the other precision.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from raysearch.data.patches import load_patches
from raysearch.data.shards.sharding import write_shards
from raysearch.data.splits.folds import fold_indices, kfolds
from raysearch.training.loop import FoldEpoch, train
from raysearch.training.numerics import Numerics
from raysearch.training.train_config import TrainConfig
from raysearch.training.training_data import TrainingData

SMALL = {"convolutions": 1, "width": 8, "learning_rate": 0.006, "schedule": "one_cycle"}
LARGE = {"convolutions": 2, "width": 16, "learning_rate": 0.0012, "schedule": "constant"}
TRIALS: tuple[dict[str, Any], ...] = (
    {"architecture": "benchmark"},
    {**SMALL, "batch_size": 16},
    {**LARGE, "batch_size": 16},
)
PLAIN: dict[str, Any] = {"threads": 1, "precision": "float32", "environment": {}}
FEWER = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "AVX2"}
WAYS = {
    "first": PLAIN,
    "again": PLAIN,
    "fewer_instructions": {**PLAIN, "environment": FEWER},
    "two_threads": {**PLAIN, "threads": 2},
    "bfloat16": {**PLAIN, "precision": "bfloat16"},
}


def objectives(shards: str, threads: int, precision: str) -> list[float]:
    """The AUROC at each fold-epoch of each trial."""
    torch.set_num_threads(threads)
    patches = load_patches(shards)
    first = kfolds(patches.patients, patches.labels, 3, 0)[:1]
    data = TrainingData(
        torch.from_numpy(patches.pixels),
        torch.from_numpy(patches.labels),
        patches.patients,
        patches.shape,
        patches.class_names,
        tuple(fold_indices(patches.patients, first)),
    )
    found: list[float] = []

    def take(done: FoldEpoch, *_more: object) -> None:
        found.append(done.objective)

    for hparams in TRIALS:
        config = TrainConfig(hparams, 4, "auroc", 0)
        train(dataclasses.replace(config, numerics=Numerics(precision)), data, take)
    return found


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        shards = Path(scratch) / "shards"
        write_shards("24:1200:0", shards, "synthetic", workers=1)
        found = {}
        for name, way in WAYS.items():
            words = [sys.executable, __file__, str(shards), str(way["threads"]), way["precision"]]
            here = {**os.environ, **way["environment"], "RAYSEARCH_CACHE": f"{scratch}/cache"}
            told = subprocess.run(words, env=here, check=True, capture_output=True, text=True)
            found[name] = np.array(json.loads(told.stdout))
    apart = {name: float(np.abs(some - found["first"]).max()) for name, some in found.items()}
    print(json.dumps({"benchmark": "replays", "fold_epochs": len(found["first"]), **apart}))


if __name__ == "__main__":
    if len(sys.argv) == 4:
        print(json.dumps(objectives(sys.argv[1], int(sys.argv[2]), sys.argv[3])))
    else:
        main()
