"""Measures how reproducible the AUROC of a trial is, if it is trained again in several ways.

    .venv/bin/python benchmarks/replays.py

Three trials are trained on the quickstart's synthetic patches, for four epochs of the first fold,
each time in a new process. The result is the largest difference of a fold-epoch's AUROC from the
first training. A repetition under equal conditions must not differ. Other machines are simulated by
a smaller instruction set, another number of threads, and another precision.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from raysearch.config.hyperparameter_spec import Value
from raysearch.data.shards.patches import load_patches
from raysearch.data.shards.sharding import write_shards
from raysearch.data.splits.folds import fold_indices, stratified_group_kfold
from raysearch.training.loop import FoldEpoch, train
from raysearch.training.precision_settings import PrecisionSettings
from raysearch.training.train_config import TrainConfig
from raysearch.training.training_data import TrainingData

HPARAMS: tuple[dict[str, Value], ...] = (
    {"architecture": "benchmark"},
    {
        "convolutions": 1,
        "width": 8,
        "learning_rate": 0.006,
        "schedule": "one_cycle",
        "batch_size": 16,
    },
    {
        "convolutions": 2,
        "width": 16,
        "learning_rate": 0.0012,
        "schedule": "constant",
        "batch_size": 16,
    },
)


@dataclass(frozen=True)
class Conditions:
    """The conditions of a training that can change its numerical results."""

    threads: int = 1
    precision: str = "float32"
    environment: Mapping[str, str] = field(default_factory=dict)


SMALL_INSTRUCTION_SET = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "AVX2"}
REFERENCE = "first"
CONDITIONS = {
    REFERENCE: Conditions(),
    "repeated": Conditions(),
    "small_instruction_set": Conditions(environment=SMALL_INSTRUCTION_SET),
    "two_threads": Conditions(threads=2),
    "bfloat16": Conditions(precision="bfloat16"),
}


def train_trials(shards: str, threads: int, precision: str) -> list[float]:
    """Return the AUROC at each fold-epoch of each trial."""
    torch.set_num_threads(threads)
    patches = load_patches(shards)
    first_fold = stratified_group_kfold(patches.patients, patches.labels, 3, 0)[:1]
    data = TrainingData(
        torch.from_numpy(patches.pixels),
        torch.from_numpy(patches.labels),
        patches.patients,
        patches.shape,
        patches.class_names,
        tuple(fold_indices(patches.patients, first_fold)),
    )
    aurocs: list[float] = []

    def report(fold_epoch: FoldEpoch, *_scores: object) -> None:
        aurocs.append(fold_epoch.objective)

    for hparams in HPARAMS:
        config = TrainConfig(hparams, 4, "auroc", 0, PrecisionSettings(precision))
        train(config, data, report)
    return aurocs


def main() -> None:
    """Train under all conditions, and print the largest differences."""
    with tempfile.TemporaryDirectory() as scratch:
        shards = Path(scratch) / "shards"
        write_shards("24:1200:0", shards, "synthetic", workers=1)
        aurocs = {}
        for name, conditions in CONDITIONS.items():
            arguments = [str(shards), str(conditions.threads), conditions.precision]
            environment = {**os.environ, **conditions.environment}
            process = subprocess.run(
                [sys.executable, __file__, *arguments],
                env=environment | {"RAYSEARCH_CACHE": f"{scratch}/cache"},
                check=True,
                capture_output=True,
                text=True,
            )
            aurocs[name] = np.array(json.loads(process.stdout))
    reference = aurocs[REFERENCE]
    differences = {name: float(np.abs(values - reference).max()) for name, values in aurocs.items()}
    result = {"benchmark": "replays", "fold_epochs": len(reference), **differences}
    print(json.dumps(result))


if __name__ == "__main__":
    if len(sys.argv) == 4:
        print(json.dumps(train_trials(sys.argv[1], int(sys.argv[2]), sys.argv[3])))
    else:
        main()
