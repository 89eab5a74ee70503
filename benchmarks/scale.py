"""Measures the engine with many short trials: 10,000 that sleep a second, on 16 logical slots.

    .venv/bin/python benchmarks/scale.py [--trials 10000] [--seconds 1]

The ideal is trials x seconds / 16. Some trials before these start the slots and do not count. The
standard error shows the launcher's memory, and the seconds of a decision at a rung and of a
proposal after 100 and after all trials.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from raysearch.config.samplers import SAMPLERS
from raysearch.config.space import Space, Stopping
from raysearch.config.space_file import parse_space
from raysearch.data.shards.sharding import write_shards
from raysearch.search.engine.ray_session import ray_session
from raysearch.search.engine.tune_search import run_search
from raysearch.search.engine.worker_messages import send_message, task_from_config
from raysearch.search.journal.events import FoldReport, TrialEnded
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.sampling.sampler import propose
from raysearch.search.scheduling.policy import SearchPolicy
from raysearch.search.study.plan_creation import make_plan
from raysearch.search.study.study import Study, create_study

SLOTS, GOAL = 16, 1.28
SPACE = {
    "epochs": 1,
    "trials": 1,
    "sampler": "random",
    "stopping": {"rule": "none"},
    "space": {
        "folds": 2,
        "width": {"choice": [8, 16, 32]},
        "learning_rate": {"loguniform": [1e-4, 1e-2]},
        "weight_decay": {"loguniform": [1e-5, 1e-2]},
        "batch_size": {"choice": [32, 64]},
    },
}
SECONDS = "RAYSEARCH_SCALE_SECONDS"


def sleep_trial(config: Mapping[str, Any]) -> None:
    """Sleep instead of training, half of the time in each fold."""
    task = task_from_config(config)
    for epoch in range(task.reported_epochs + 1, 3):
        time.sleep(float(os.environ[SECONDS]) / 2)
        value = (task.seed % 1000) / 1000
        send_message(
            FoldReport(
                trial=task.trial,
                fold=epoch - 1,
                epoch=epoch,
                objective=value,
                metrics={"auroc": value},
                loss=1.0,
                seconds=0.5,
            )
        )


def create_sleep_study(
    scratch: Path, trials: int, slots: int = SLOTS, name: str = "scale"
) -> Study:
    """Create a study of `trials`, and of two trials per slot that start the workers."""
    write_shards("4:32:0", scratch / "shards", "synthetic", size=(16, 16), workers=1)
    space = parse_space({**SPACE, "trials": trials + 2 * slots}, name)
    plan, splits = make_plan(space, name, str(scratch / "shards"))
    return create_study(StudyFolder(scratch / "study"), plan, splits)


def seconds_taken(study: Study, slots: int = SLOTS) -> float:
    """The seconds from the end of the last trial that starts a slot to that of the last trial."""
    ends = [
        event.time
        for event in study.journal.events
        if isinstance(event, TrialEnded) and event.trial != "benchmark"
    ]
    return ends[-1] - ends[2 * slots - 1]


@contextmanager
def ray_with_slots(slots: int) -> Iterator[None]:
    """Start a Ray cluster with so many logical CPUs on this machine, and join it."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": slots, "include_dashboard": False}
    )
    os.environ["RAY_ADDRESS"] = cluster.address
    try:
        with ray_session():
            yield
    finally:
        cluster.shutdown()


def decision_seconds(space: Space, trials: int) -> dict[str, float]:
    """The median seconds of a decision and of proposals after `trials` simulated trials."""
    simulated = replace(space, trials=trials, epochs=3, stopping=Stopping(1, 3, "asha"))
    policy, seconds = SearchPolicy(simulated), []
    for number in range(trials):
        event = policy.next()
        assert event is not None
        policy.apply(event)
        trial = policy.history.trials[event.trial]
        value = (trial.seed % 10007) / 10007
        policy.apply(FoldReport(trial.id, 0, 1, value, {"auroc": value}, None, 1.0, rung=True))
        start = time.perf_counter()
        decision = policy.decide(trial)
        if number >= trials - 50:
            seconds.append(time.perf_counter() - start)
        if decision is not None:
            policy.apply(decision)
    medians = {"decision_s": statistics.median(seconds)}
    for name in ("random", "tpe"):
        start = time.perf_counter()
        propose(replace(simulated, sampler=SAMPLERS[name]()), policy.history, trials)
        medians[f"{name}_s"] = time.perf_counter() - start
    return medians


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--trials", type=int, default=10_000)
    options.add_argument("--seconds", type=float, default=1.0)
    arguments = options.parse_args()
    os.environ[SECONDS] = str(arguments.seconds)
    with tempfile.TemporaryDirectory() as folder:
        study = create_sleep_study(Path(folder), arguments.trials)
        with ray_with_slots(SLOTS):
            study.begin()
            run_search(study, sleep_trial)
        seconds = seconds_taken(study)
        space = study.plan.space
    ideal = arguments.trials * arguments.seconds / SLOTS
    for trials in (100, arguments.trials):
        sys.stderr.write(f"after {trials} trials: {decision_seconds(space, trials)}\n")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stderr.write(f"launcher: {memory:.0f} MB at most\n")
    print(
        json.dumps(
            {
                "benchmark": "scale",
                "value": round(seconds, 1),
                "unit": "s",
                "peer": ideal,
                "ratio": round(seconds / ideal, 3),
                "goal": f"<= {GOAL} times the ideal",
                "pass": seconds <= GOAL * ideal,
            }
        )
    )


if __name__ == "__main__":
    main()
