"""Searches over classifiers on frozen features: their result, their trials, their second study.

    RAYSEARCH_WEIGHTS=... RAYSEARCH_SHARED=... .venv/bin/python benchmarks/frozen_search.py

Over the 203 patients of the IDC sample, in 3 folds, with MobileNetV2's ImageNet weights at 96
pixels:

- `search`: seconds of `raysearch launch` from its start to its end, the features included, and the
  AUROC of the best trial, pooled out of fold. Peer: `plain_probe.py`, a script over `ImageFolder`
  with `LogisticRegressionCV` and Optuna, in the same run.
- `trials`: seconds of the search of 500 trials, with early stopping by a budget and with MLflow,
  from the launch event of a second study over the same features to the last end of a trial; and
  the seconds of training of its first report, in which a worker reads the features.

The launches compute on all cores. Prints a JSON line for each figure.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

from raysearch.search.journal.events import FoldReport, StudyLaunched, TrialEnded, TrialStarted
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.stored_study import StudySnapshot, load_study

SEARCH_GOAL_S, AUROC_GOAL, TRIALS_GOAL_S, SECOND_GOAL_S = 300, 0.91, 300, 3
NUM_TRIALS, FOLDS_OF_TRIALS = 500, 1100
CLASSIFIERS = {
    "choice": {
        "logistic_regression": {"l2_penalty": {"loguniform": [3e-3, 3]}},
        "linear": {
            "feature_passes": 3,
            "learning_rate": {"loguniform": [1e-4, 1e-2]},
            "weight_decay": {"loguniform": [1e-3, 1]},
        },
        "nearest_centroid": {},
    }
}
SPACE = {
    "objective": {"metric": "auroc", "mode": "max"},
    "epochs": 1,
    "seed": 0,
    "memory": "none",
    "repeats": 0,
    "resources": {"cpus": 1, "gpus": 0},
    "space": {
        "folds": 3,
        "architecture": "mobilenet_v2",
        "weights": "imagenet",
        "input_size": 96,
        "adaptation": "frozen",
        "augment": "none",
        "classifier": CLASSIFIERS,
    },
}


def command(*words: str, folder: Path) -> str:
    """Run `raysearch` in `folder`; return its output.

    Raises:
        SystemExit: If the command fails.
    """
    program = Path(sys.executable).with_name("raysearch")
    done = subprocess.run(
        [program, *words], cwd=folder, check=False, stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        sys.exit(f"raysearch {' '.join(words)}: exit code {done.returncode}")
    return done.stdout


def launch(folder: Path, name: str, trials: int, **hparams: object) -> StudySnapshot:
    """Run a study over the patches of `folder`; return it."""
    budget = {"budget": {"fold_epochs": FOLDS_OF_TRIALS}} if trials == NUM_TRIALS else {}
    space = {**SPACE, **budget, "trials": trials, "space": {**SPACE["space"], **hparams}}  # type: ignore[dict-item]
    (folder / f"{name}.yaml").write_text(json.dumps(space))
    command("launch", f"{name}.yaml", "--data", "shards", "--name", name, folder=folder)
    return load_study(StudyFolder(str(folder / "studies" / name)))


def print_line(
    benchmark: str, value: float, unit: str, goal: str, *, is_met: bool, **more: object
) -> bool:
    """Print the JSON line of a benchmark; return whether its goal is met."""
    line = {"benchmark": benchmark, "value": round(value, 4), "unit": unit}
    print(json.dumps({**line, **more, "goal": goal, "pass": is_met}), flush=True)
    return is_met


def class_folders(images: Path, folder: Path) -> Path:
    """Link the images of IDC into a folder for each class."""
    for path in images.rglob("*.png"):
        label = folder / path.parent.name
        label.mkdir(parents=True, exist_ok=True)
        (label / path.name).symlink_to(path)
    return folder


def probe(images: Path, weights: Path) -> dict[str, float]:
    """Run the peer in a process of its own."""
    script = Path(__file__).with_name("plain_probe.py")
    done = subprocess.run(
        [sys.executable, script, images, weights], check=True, stdout=subprocess.PIPE, text=True
    )
    result: dict[str, float] = json.loads(done.stdout)
    return result


def measure_search(folder: Path, images: Path, weights: Path, sharding: float) -> bool:
    """Run a search as a user does, and the peer; return whether the goal is met.

    The seconds of `sharding` are added for the ratio: the peer decodes the images, too.
    """
    start = time.monotonic()
    launch(folder, "search", 30, features="multi", augment="dihedral", tta="dihedral")
    seconds = time.monotonic() - start
    command("results", "search", "--csv", "search.csv", folder=folder)
    with (folder / "search.csv").open(encoding="utf-8") as file:
        auroc = max(float(row["pooled"]) for row in csv.DictReader(file) if row["pooled"])
    peer = probe(class_folders(images, folder / "classes"), weights)
    peer_seconds = peer["extraction_s"] + peer["logistic_regression_cv_s"] + peer["optuna_s"]
    return print_line(
        "frozen-search",
        seconds,
        "s",
        f"<= {SEARCH_GOAL_S} s with an AUROC of {AUROC_GOAL}",
        is_met=seconds <= SEARCH_GOAL_S and auroc >= AUROC_GOAL,
        auroc=round(auroc, 4),
        sharding_s=round(sharding, 1),
        peer=peer,
        ratio=round(peer_seconds / (sharding + seconds), 2),
    )


def measure_trials(folder: Path) -> bool:
    """Run two studies over the same features; return whether the goals for the second are met."""
    launch(folder, "features", 1)
    start = time.monotonic()
    study = launch(folder, "trials", NUM_TRIALS)
    seconds = time.monotonic() - start
    begin = next(event.time for event in study.events if isinstance(event, StudyLaunched))
    searched = {trial.id for trial in study.history.searched()}
    ends = [event.time for event in study.events if isinstance(event, TrialEnded)]
    reports = [
        event for event in study.events if isinstance(event, FoldReport) and event.trial in searched
    ]
    search_seconds = max(ends) - begin
    is_fast = print_line(
        "frozen-trials",
        search_seconds,
        "s",
        f"<= {TRIALS_GOAL_S} s for {NUM_TRIALS} trials",
        is_met=search_seconds <= TRIALS_GOAL_S and len(searched) >= NUM_TRIALS,
        trials=len(searched),
        folds=len(reports),
        launch_s=round(seconds, 1),
        peer=None,
        ratio=round(search_seconds / TRIALS_GOAL_S, 2),
    )
    first = reports[0]
    start = next(
        event.time
        for event in study.events
        if isinstance(event, TrialStarted) and event.trial in searched
    )
    is_early = print_line(
        "frozen-second-study",
        first.seconds,
        "s",
        f"<= {SECOND_GOAL_S} s of the first report's training, which reads the features",
        is_met=first.seconds <= SECOND_GOAL_S,
        with_start_of_worker_s=round(first.time - start, 2),
        after_launch_event_s=round(first.time - begin, 2),
        peer=None,
        ratio=round(first.seconds / SECOND_GOAL_S, 2),
    )
    return is_fast and is_early


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", nargs="?", choices=("all", "search", "trials"), default="all")
    parser.add_argument("--out", type=Path, help="a folder that keeps the studies")
    arguments = parser.parse_args()
    shared = os.environ.get("RAYSEARCH_SHARED", "")
    weights = [
        path.resolve()
        for each in os.environ.get("RAYSEARCH_WEIGHTS", "").split(os.pathsep)
        for path in Path(each).glob("mobilenet_v2-*.pth")
        if each
    ]
    if not shared or not weights:
        print("skipped: RAYSEARCH_SHARED or RAYSEARCH_WEIGHTS does not name its folder")
        return
    with tempfile.TemporaryDirectory() as name:
        folder = (arguments.out or Path(name)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        os.environ["RAYSEARCH_CACHE"] = str(folder / "cache")
        os.environ["RAYSEARCH_WEIGHTS"] = str(weights[0].parent)
        with tarfile.open(Path(shared) / "data" / "idc.tar") as archive:
            archive.extractall(folder, filter="data")
        images = folder / "idc"
        start = time.monotonic()
        command("shard", str(images), "shards", folder=folder)
        command("split", "shards", "--test", "0", folder=folder)
        sharding = time.monotonic() - start
        passed = True
        if arguments.what != "trials":
            passed &= measure_search(folder, images, weights[0], sharding)
        if arguments.what != "search":
            passed &= measure_trials(folder)
    sys.exit(not passed)


if __name__ == "__main__":
    main()
