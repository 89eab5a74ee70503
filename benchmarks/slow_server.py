"""Measures by how much a tracking server with a second of latency slows a study.

    .venv/bin/python benchmarks/slow_server.py [--trials 60]

The trials sleep for a second and report twice, on two slots. Each turn runs a study without delay
and a study with a delay of one second, every second turn in the other order. The final flush and
the first four trials, in which the slots start, do not count.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from raysearch.search.engine.tune_search import run_search
from raysearch.search.tracking.tracker import Tracker
from scale import SECONDS, create_sleep_study, ray_with_slots, seconds_taken, sleep_trial
from support.tracking_server import Proxy, Server

SLOTS, TURNS, GOAL = 2, 2, 1.05


def study_seconds(scratch: Path, trials: int, address: str) -> float:
    """The seconds until the last of `trials` has ended, without the final flush."""
    study = create_sleep_study(scratch, trials, SLOTS, f"study-{scratch.name}")
    tracker = Tracker(study.plan, address)
    study.add_listener(tracker.send)
    study.begin()
    run_search(study, sleep_trial)
    duration = seconds_taken(study, SLOTS)
    if tracker.close("FINISHED", 600) is not None:
        raise SystemExit("the server did not receive all events")
    return duration


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--trials", type=int, default=60)
    trials = options.parse_args().trials
    os.environ[SECONDS] = "1"
    delays: dict[float, list[float]] = {0.0: [], 1.0: []}
    with tempfile.TemporaryDirectory() as folder, ray_with_slots(SLOTS):
        server = Server(Path(folder))
        try:
            for turn in range(TURNS):
                for delay, durations in list(delays.items())[:: -1 if turn % 2 else 1]:
                    with Proxy(server.port) as proxy:
                        scratch = Path(folder) / f"{turn}-{delay:g}"
                        proxy.delay_s = delay
                        durations.append(study_seconds(scratch, trials, proxy.address))
                        sys.stderr.write(f"{delay:g} s late: {durations[-1]:.1f} s\n")
        finally:
            server.signal(signal.SIGKILL)
    without_delay, delayed = (statistics.median(durations) for durations in delays.values())
    ratio = round(delayed / without_delay, 3)
    print(
        json.dumps(
            {
                "benchmark": "slow-server",
                "value": round(delayed, 1),
                "unit": "s",
                "peer": round(without_delay, 1),
                "ratio": ratio,
                "goal": f"<= {GOAL} times as long",
                "pass": ratio <= GOAL,
            }
        )
    )


if __name__ == "__main__":
    main()
