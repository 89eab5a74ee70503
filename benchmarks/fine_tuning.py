"""What each part of the fine-tuning recipe is worth: one training with it, and one without.

    RAYSEARCH_WEIGHTS=... RAYSEARCH_SHARED=... .venv/bin/python benchmarks/fine_tuning.py
    .venv/bin/python benchmarks/fine_tuning.py --shards data/idc --recipes recipe

MobileNetV2 with ImageNet's weights is trained on one of three folds of the 203 patients of the IDC
sample, as in `searchspace/idc-finetune.yaml`: all layers, four epochs, patches enlarged to 96
pixels. Each recipe differs from it in what its name says; `seed` differs in nothing else, so that
its difference is that of chance. Two processes train side by side, on one thread each; a recipe
takes five to ten minutes.

Prints a line for each recipe: the AUROC of the validation patches, one view of each and the mean of
eight, the patches per second of training, and the seconds. The last line is the JSON line of the
best recipe; its peer is the recipe of the space file.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from raysearch.config.hyperparameter_spec import Value
from raysearch.data.shards.patches import load_patches
from raysearch.data.splits.folds import fold_indices, stratified_group_kfold
from raysearch.models.transfer.pretrained_weights import weights_hash
from raysearch.training.fold_training import FoldTrainer
from raysearch.training.precision_settings import PrecisionSettings
from raysearch.training.train_config import TrainConfig
from raysearch.training.training_data import TrainingData

GOAL, NUM_FOLDS = 0.945, 3
RECIPE: dict[str, Value] = {
    "architecture": "mobilenet_v2",
    "weights": "imagenet",
    "input_size": 96,
    "adaptation": "full",
    "optimizer": "adamw",
    "learning_rate": 1e-3,
    "weight_decay": 0.02,
    "label_smoothing": 0.05,
    "class_weights": False,
    "batch_size": 64,
    "schedule": "one_cycle",
    "tta": "dihedral",
}


@dataclass(frozen=True)
class Recipe:
    """How a network is fine-tuned.

    Attributes:
        hparams: The hyperparameters that differ from those of `RECIPE`.
        epochs: The number of epochs.
        seed: The seed of the training.
        precision: `float32` or `bfloat16`.
    """

    hparams: dict[str, Value] = field(default_factory=dict)
    epochs: int = 4
    seed: int = 0
    precision: str = "float32"


RECIPES = {
    "recipe": Recipe(),
    "seed": Recipe(seed=1),
    "input_size: 128": Recipe({"input_size": 128}),
    "epochs: 8": Recipe(epochs=8),
    "head_epochs: 1": Recipe({"head_epochs": 1, "head_learning_rate": 5e-3}),
    "augment: none": Recipe({"augment": "none"}),
    "color_jitter: 0.1": Recipe({"color_jitter": 0.1}),
    "stain_jitter: 0.1": Recipe({"stain_jitter": 0.1}),
    "resize: bicubic": Recipe({"resize": "bicubic"}),
    "ema_decay: 0.98": Recipe({"ema_decay": 0.98}),
    "mixup_alpha: 0.2": Recipe({"mixup_alpha": 0.2}),
    "label_smoothing: 0": Recipe({"label_smoothing": 0.0}),
    "class_weights: true": Recipe({"class_weights": True}),
    "precision: bfloat16": Recipe(precision="bfloat16"),
    "lite0": Recipe({"architecture": "timm:tf_efficientnet_lite0", "head_dropout": 0.2}),
}


@dataclass(frozen=True)
class Result:
    """The result of a recipe.

    Attributes:
        auroc: The AUROC of the validation patches, by the mean over flips and turns.
        plain_auroc: The same by the patches as they are.
        patches_per_s: The patches that are trained on in a second.
        seconds: The time of the training and of both validations.
    """

    auroc: float
    plain_auroc: float
    patches_per_s: float
    seconds: float


def load_data(shards: str, fold: int) -> TrainingData:
    """Return the patches of IDC, with one fold by patient."""
    patches = load_patches(shards)
    labels = np.asarray(patches.labels, np.int64)
    folds = stratified_group_kfold(patches.patients, labels, NUM_FOLDS, 0)
    return TrainingData(
        torch.from_numpy(np.asarray(patches.pixels)),
        torch.from_numpy(labels),
        patches.patients,
        patches.shape,
        patches.class_names,
        (fold_indices(patches.patients, folds)[fold],),
    )


def measure(shards: str, recipe: Recipe, fold: int) -> Result:
    """Train by a recipe on one thread; validate the last epoch."""
    torch.set_num_threads(1)
    data = load_data(shards, fold)
    hparams = RECIPE | recipe.hparams
    content_hash = weights_hash(str(hparams["architecture"]), "imagenet")
    precision = PrecisionSettings(recipe.precision)
    config = TrainConfig(
        hparams, recipe.epochs, "auroc", recipe.seed, precision, weights_hash=content_hash
    )
    trainer = FoldTrainer(config, data, 0)
    start = time.perf_counter()
    for epoch in range(recipe.epochs):
        trainer.train_epoch(epoch, with_metrics=False)
    train_s = time.perf_counter() - start
    labels = data.labels.numpy()[trainer.val_indices]
    aurocs = []
    for use_tta in (True, False):
        logits = trainer.validate(use_tta=use_tta).logits
        aurocs.append(float(roc_auc_score(labels, logits[:, 1] - logits[:, 0])))
    rate = recipe.epochs * len(trainer.epoch_indices) / train_s
    return Result(aurocs[0], aurocs[1], rate, time.perf_counter() - start)


def prepared_shards(folder: Path) -> str:
    """Shard the IDC sample in `folder`; return the address of the shards.

    Raises:
        SystemExit: If there is no sample.
    """
    shared = os.environ.get("RAYSEARCH_SHARED")
    if not shared:
        sys.exit("skipped: RAYSEARCH_SHARED does not name the folder with data/idc.tar")
    with tarfile.open(Path(shared) / "data" / "idc.tar") as archive:
        archive.extractall(folder, filter="data")
    program = Path(sys.executable).with_name("raysearch")
    subprocess.run([program, "shard", "idc", "shards"], cwd=folder, check=True)
    return str(folder / "shards")


def main() -> None:
    """Train by the recipes, and print their results."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shards", help="the shards of the IDC sample; by default, they are made")
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--fold", type=int, choices=range(NUM_FOLDS), default=0)
    parser.add_argument("--jobs", type=int, default=2, help="processes that train side by side")
    parser.add_argument("--epochs", type=int, help="in place of those of each recipe")
    words = parser.parse_args()
    recipes = {name: RECIPES[name] for name in words.recipes}
    if words.epochs:
        recipes = {name: replace(each, epochs=words.epochs) for name, each in recipes.items()}
    results = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(words.jobs) as pool,
    ):
        shards = words.shards or prepared_shards(Path(folder))
        futures = {
            name: pool.submit(measure, shards, recipe, words.fold)
            for name, recipe in recipes.items()
        }
        print("| recipe | AUROC | one view | patches/s | seconds |\n|---|---|---|---|---|")
        for name, future in futures.items():
            results[name] = result = future.result()
            print(
                f"| {name} | {result.auroc:.4f} | {result.plain_auroc:.4f}"
                f" | {result.patches_per_s:.1f} | {result.seconds:.0f} |",
                flush=True,
            )
    best = max(results, key=lambda name: results[name].auroc)
    peer = results.get("recipe", results[best]).auroc
    line = {
        "benchmark": "fine_tuning",
        "value": round(results[best].auroc, 4),
        "unit": f"AUROC of one fold ({best})",
        "peer": round(peer, 4),
        "ratio": round(results[best].auroc / peer, 4),
        "goal": f">= {GOAL}",
        "pass": results[best].auroc >= GOAL,
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
