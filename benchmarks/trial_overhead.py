"""Measures the seconds per trial of the engine: 200 trials of trivial training, warm.

    .venv/bin/python benchmarks/trial_overhead.py

Peer: plain Ray Tune without actor reuse, 10 trials of nothing, in the same run.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from raysearch.config.space_file import parse_space
from raysearch.data.shards.sharding import write_shards
from raysearch.data.step_progress import StepProgress
from raysearch.search.journal.events import TrialEnded
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.plan_creation import NewStudyFiles, make_plan
from raysearch.search.study.study import Study
from raysearch.workflow import run_study

TRIALS, PEER_TRIALS = 200, 10
GOAL_S = 0.5
SPACE = {
    "epochs": 1,
    "trials": TRIALS,
    "sampler": "tpe",
    "stopping": {"rule": "asha", "paired_alpha": 0},
    "space": {
        "folds": 2,
        "architecture": "benchmark",
        "learning_rate": {"loguniform": [1e-4, 1e-2]},
        "batch_size": 32,
    },
}


class StatusPrinter:
    """Prints the status of the benchmark's study."""

    def on_status(self, text: str) -> None:
        sys.stderr.write(f"{text}\n")

    def on_progress(self, _progress: StepProgress) -> None:
        """Do nothing."""

    def on_study(self, _study: Study) -> None:
        """Do nothing."""


def raysearch_seconds(scratch: Path) -> float:
    """Seconds per trial, from the end of the first trial to that of the last."""
    write_shards("4:32:0", scratch / "shards", "synthetic", size=(16, 16), workers=1)
    plan, splits = make_plan(parse_space(SPACE, "benchmark"), "overhead", str(scratch / "shards"))
    outcome = run_study(
        StudyFolder(scratch / "study"), plan, NewStudyFiles(splits), StatusPrinter()
    )
    events = outcome.study.journal.events
    searched = {trial.id for trial in outcome.study.history.searched()}
    ends = [
        event.time for event in events if isinstance(event, TrialEnded) and event.trial in searched
    ]
    return (ends[-1] - ends[0]) / (len(ends) - 1)


def ray_tune_seconds(scratch: Path) -> float:
    """Seconds per trial of plain Ray Tune, with an actor per trial."""
    import ray
    from ray import tune

    ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    end_times: list[float] = []

    class EndTimes(tune.Callback):  # type: ignore[misc]
        def on_trial_complete(self, *_arguments: object, **_options: object) -> None:
            end_times.append(time.monotonic())

    def empty_trial(_config: dict[str, int]) -> None:
        tune.report({"value": 1})

    tune.Tuner(
        tune.with_resources(empty_trial, {"cpu": 1}),
        tune_config=tune.TuneConfig(num_samples=PEER_TRIALS, reuse_actors=False),
        run_config=tune.RunConfig(storage_path=str(scratch), verbose=0, callbacks=[EndTimes()]),
    ).fit()
    ray.shutdown()
    return statistics.mean([(end_times[-1] - end_times[0]) / (len(end_times) - 1)])


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{scratch}/mlflow.db"
        os.environ["RAYSEARCH_CACHE"] = str(scratch / "cache")
        os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
        value, peer = raysearch_seconds(scratch), ray_tune_seconds(scratch / "peer")
    print(
        json.dumps(
            {
                "benchmark": "trial_overhead",
                "value": round(value, 4),
                "unit": "s/trial",
                "peer": round(peer, 4),
                "ratio": round(peer / value, 2),
                "goal": f"<= {GOAL_S}",
                "pass": value <= GOAL_S,
            }
        )
    )


if __name__ == "__main__":
    main()
