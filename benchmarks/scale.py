"""Many short trials through the real engine: 10,000 that sleep a second each, on 16 logical slots.

    uv run python benchmarks/scale.py [--trials 10000] [--seconds 1]

The ideal is trials x seconds / 16. The slots start with some trials beforehand, which do not count.
Further lines, on the standard error: the launcher's memory, and what a decision at a rung and a
proposal cost after 100 and after all trials.
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

from raysearch.config.space import Sampling, Space, Stopping
from raysearch.config.space_file import parse_space
from raysearch.data.shards.sharding import write_shards
from raysearch.search.engine.reporter import send
from raysearch.search.engine.session import ray_session, search
from raysearch.search.engine.worker_tasks import Job
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.sampling.sampler import propose
from raysearch.search.scheduling.policy import SearchPolicy
from raysearch.search.study.plan import make_plan
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


def nap(config: Mapping[str, Any]) -> None:
    """A trial that sleeps instead of training, a half of its time a fold."""
    job = Job(**config["job"])
    for epoch in range(job.reported + 1, 3):
        time.sleep(float(os.environ[SECONDS]) / 2)
        value = (job.seed % 1000) / 1000
        send(
            {
                "epoch": epoch,
                "fold": epoch - 1,
                "objective": value,
                "loss": 1.0,
                "metrics": {"auroc": value},
                "seconds": 0.5,
            }
        )


def study_of(scratch: Path, trials: int, slots: int = SLOTS, name: str = "scale") -> Study:
    """A study of `trials`, and two a slot that start the workers."""
    write_shards("4:32:0", scratch / "shards", "synthetic", size=(16, 16), workers=1)
    space = parse_space({**SPACE, "trials": trials + 2 * slots}, name)
    plan, splits = make_plan(space, name, str(scratch / "shards"))
    return create_study(StudyFolder(scratch / "study"), plan, splits)


def seconds_taken(study: Study, slots: int = SLOTS) -> float:
    """From the end of the last trial that started the slots to the end of the last one."""
    ends = [
        event["at"]
        for event in study.journal.events
        if event["event"] == "end" and event["trial"] != "benchmark"
    ]
    return float(ends[-1] - ends[2 * slots - 1])


@contextmanager
def ray_of(slots: int) -> Iterator[None]:
    """A Ray of so many logical slots on this machine, joined."""
    from ray.cluster_utils import Cluster  # noqa: PLC0415 - after the engine, which sets it up

    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": slots, "include_dashboard": False}
    )
    os.environ["RAY_ADDRESS"] = cluster.address
    try:
        with ray_session():
            yield
    finally:
        cluster.shutdown()


def decisions(space: Space, trials: int) -> dict[str, float]:
    """The median seconds of a decision at a rung around the trial `trials`, simulated."""
    asked = replace(space, trials=trials, epochs=3, stopping=Stopping(1, 3, "asha"))
    policy, took = SearchPolicy(asked), []
    for number in range(trials):
        event = policy.next()
        assert event is not None
        policy.take({"at": 0.0, **event})
        trial = policy.history.trials[event["trial"]]
        value = (trial.seed % 10007) / 10007
        report = {"event": "report", "at": 0.0, "trial": trial.id, "epoch": 1, "fold": 0}
        report |= {"objective": value, "metrics": {"auroc": value}, "seconds": 1.0, "rung": True}
        policy.take(report)
        began = time.perf_counter()
        decision = policy.decision(trial)
        if number >= trials - 50:
            took.append(time.perf_counter() - began)
        if decision is not None:
            policy.take({"at": 0.0, **decision})
    found = {"decision_s": statistics.median(took)}
    for name in ("random", "tpe"):
        began = time.perf_counter()
        propose(replace(asked, sampling=Sampling(name)), policy.history, trials)
        found[f"{name}_s"] = time.perf_counter() - began
    return found


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--trials", type=int, default=10_000)
    options.add_argument("--seconds", type=float, default=1.0)
    asked = options.parse_args()
    os.environ[SECONDS] = str(asked.seconds)
    with tempfile.TemporaryDirectory() as folder:
        study = study_of(Path(folder), asked.trials)
        with ray_of(SLOTS):
            study.begin()
            search(study, nap)
        took = seconds_taken(study)
        space = study.plan.space
    ideal = asked.trials * asked.seconds / SLOTS
    for trials in (100, asked.trials):
        sys.stderr.write(f"after {trials} trials: {decisions(space, trials)}\n")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stderr.write(f"launcher: {memory:.0f} MB at most\n")
    print(
        json.dumps(
            {
                "benchmark": "scale",
                "value": round(took, 1),
                "unit": "s",
                "peer": ideal,
                "ratio": round(took / ideal, 3),
                "goal": f"<= {GOAL} times the ideal",
                "pass": took <= GOAL * ideal,
            }
        )
    )


if __name__ == "__main__":
    main()
