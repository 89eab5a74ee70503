"""How near the corrected estimate comes to what the best trial is truly worth, with early stopping.

    uv run python benchmarks/selection.py

Really trained studies of synthetic patches: in each, trials of random hyperparameters over folds by patient,
half of them stopped by what they had on the first fold, the best by the pooled AUROC of the rest.
The truth is what the same nets, each of its fold, have on six times as many new patients. That a
study's patients are easier than others is no bias of a choice; the mean of all trials tells it, all
trained to their end for that alone, and it is taken off. Peer: the figure of the best trial itself.
Here `ratio` is how many times nearer the estimate is in the mean.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax

from raysearch.data.patches import Patches, load_patches
from raysearch.data.shards.sharding import write_shards
from raysearch.metrics.model_selection import Rung, bias_corrected_estimate
from raysearch.models.classifier import PatchClassifier
from raysearch.search.study.fold_scores import OutOfFold
from raysearch.selection.paired_bootstrap import Draws
from raysearch.training.fold_training import FoldRun
from raysearch.training.train_config import TrainConfig
from raysearch.training.training_data import TrainingData

PATIENTS, TIMES, PATCHES = 24, 6, 20
TRIALS, FOLDS, EPOCHS, DRAWS, GOAL = 12, 3, 3, 1000, 0.005
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Set:
    """The patches of a study, those of its `own` patients, and those that nobody has seen."""

    data: TrainingData
    own: NDArray[np.int64]
    new: NDArray[np.int64]


def main() -> None:
    """Train, and print how far off both are."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--studies", type=int, default=100)
    asked = parser.parse_args()
    found = np.array([study(seed) for seed in range(asked.studies)])
    lucky, corrected = (found[:, place] - found[:, 2] for place in (0, 1))
    for name, errors in (("best", lucky), ("corrected", corrected)):
        off = errors.std(ddof=1) / np.sqrt(len(errors))
        print(f"{name}: {errors.mean():+.4f} (standard error {off:.4f}) from the truth in the mean")
    value, peer = abs(float(corrected.mean())), abs(float(lucky.mean()))
    line = {"benchmark": "selection", "value": round(value, 4), "unit": "AUROC from the truth"}
    line |= {"peer": round(peer, 4), "ratio": round(peer / value, 2), "goal": GOAL}
    print(json.dumps(line | {"pass": value < GOAL}))


def study(seed: int) -> tuple[float, float, float]:
    """(the best trial's AUROC, the corrected estimate, the true AUROC) of one study."""
    one = drawn(seed)
    draws = Draws.of_patients(one.data.patients[one.own], DRAWS, seed)
    early, end, left_out, truth = (np.full((TRIALS, DRAWS + 1), np.nan) for _ in range(4))
    for trial in range(TRIALS):
        runs = [trained(config(seed, trial), one, fold) for fold in range(FOLDS)]
        rows = pooled(one, runs)
        early[trial] = draws.metric("auroc", pooled(one, runs[:1]))
        end[trial] = draws.metric("auroc", rows)
        left_out[trial] = draws.left_out().metric("auroc", rows)
        truth[trial, 0] = true(one, runs)
    easier = float(end[:, 0].mean() - truth[:, 0].mean())
    stopped = np.argsort(-early[:, 0])[TRIALS // 2 :]
    end[stopped] = left_out[stopped] = np.nan
    rung = Rung(np.arange(TRIALS), early[:, 1:], TRIALS // 2)
    estimate = bias_corrected_estimate(end[:, 1:], left_out[:, 1:], 1.0, [rung]).value
    assert estimate is not None
    best = int(np.nanargmax(end[:, 0]))
    told = float(end[best, 0]) - easier, estimate - easier, float(truth[best, 0])
    print(" ".join(f"{value:.4f}" for value in told), flush=True)
    return told


def drawn(seed: int) -> Set:
    """The set of a study: its first patients have folds, the others are new."""
    count = PATIENTS * (1 + TIMES)
    with tempfile.TemporaryDirectory() as scratch:
        write_shards(
            f"{count}:{count * PATCHES}:{seed}", Path(scratch) / "shards", "synthetic", workers=1
        )
        patches = load_patches(f"{scratch}/shards", cache=Path(scratch) / "cache")
        pixels = torch.from_numpy(np.array(patches.pixels))
    names = np.unique(patches.patients)
    own = np.random.default_rng(seed).permutation(names)[:PATIENTS]
    parts = [np.flatnonzero(np.isin(patches.patients, part)) for part in np.array_split(own, FOLDS)]
    folds = tuple(
        (np.concatenate([each for each in parts if each is not judge]), judge) for judge in parts
    )
    new = np.flatnonzero(~np.isin(patches.patients, own))
    return Set(_data(patches, pixels, folds), np.concatenate(parts), new)


def _data(patches: Patches, pixels: torch.Tensor, folds: Any) -> TrainingData:
    labels = torch.from_numpy(np.array(patches.labels))
    return TrainingData(pixels, labels, patches.patients, patches.shape, patches.class_names, folds)


def config(seed: int, trial: int) -> TrainConfig:
    """A trial with hyperparameters drawn as a search draws its first ones."""
    draw = np.random.default_rng([seed, trial])
    hparams = {
        "architecture": "cnn",
        "width": 4,
        "convolutions": 1,
        "batch_size": int(draw.choice([16, 32, 64])),
        "learning_rate": float(10 ** draw.uniform(-3, -1.5)),
    }
    return TrainConfig(hparams, EPOCHS, "auroc", seed=1000 * seed + trial)


def trained(config: TrainConfig, one: Set, fold: int) -> FoldRun:
    """The net of `fold`, with all its epochs learned."""
    run = FoldRun(config, one.data, fold)
    for epoch in range(config.epochs):
        run.learn(epoch)
    return run


def pooled(one: Set, runs: list[FoldRun]) -> OutOfFold:
    """What each net gave its own fold's patients."""
    found = [run.judge(averaged=True) for run in runs]
    rows = np.concatenate([each.rows for each in found])
    given = softmax(np.concatenate([each.logits for each in found]), axis=1)
    folds = np.repeat(np.arange(len(found)), [len(each.rows) for each in found])
    labels = one.data.labels.numpy()[rows]
    return OutOfFold(labels, given, one.data.patients[rows], folds, rows)


def true(one: Set, runs: list[FoldRun]) -> float:
    """The AUROC of the nets on new patients, a third of whom each of three nets judges."""
    owners = one.data.patients[one.new]
    parts = np.array_split(np.unique(owners), len(runs))
    rows, given = [], []
    for run, part in zip(runs, parts, strict=True):
        mine = one.new[np.isin(owners, part)]
        net = PatchClassifier(run.net, run.preprocessing).eval()
        with torch.inference_mode():
            pixels = one.data.pixels[torch.from_numpy(mine)].view(-1, *one.data.shape)
            given.append(np.concatenate([net(some).numpy() for some in torch.split(pixels, 1024)]))
        rows.append(mine)
    every = np.concatenate(rows)
    folds = np.repeat(np.arange(len(rows)), [len(each) for each in rows])
    labels = one.data.labels.numpy()[every]
    found = OutOfFold(labels, np.concatenate(given), one.data.patients[every], folds, every)
    return float(Draws.of_patients(found.patients, 1, 0).metric("auroc", found)[0])


if __name__ == "__main__":
    main()
