"""How much a tracking server that takes a second a request slows a study.

    uv run python benchmarks/slow_server.py [--trials 60]

Trials of two reports that sleep for a second, on two slots, with the same tracking server at once
and a second late, in turns. The final flush does not count: from the first trial's end to the last.
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

from raysearch.search.engine.run import ray_session, search
from raysearch.search.study import Study
from raysearch.search.tracking.runs import Tracker
from scale import SECONDS, nap, study_of
from tracking_server import Proxy, Server

TURNS, GOAL = 2, 1.05


def seconds(scratch: Path, trials: int, address: str) -> float:
    """From the end of the first trial to that of the last."""
    study = study_of(scratch, trials, f"study-{scratch.name}")
    tracker = Tracker(study.plan, address)
    study.listeners.append(tracker.send)
    study.begin()
    search(study, nap)
    ends = ended(study)
    if tracker.close("FINISHED", 600) is not None:
        raise SystemExit("the server was not told all")
    return ends[-1] - ends[0]


def ended(study: Study) -> list[float]:
    return [
        float(event["at"])
        for event in study.journal.events
        if event["event"] == "end" and event["trial"] != "benchmark"
    ]


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--trials", type=int, default=60)
    trials = options.parse_args().trials
    os.environ[SECONDS] = "1"
    delays: dict[float, list[float]] = {0.0: [], 1.0: []}
    with tempfile.TemporaryDirectory() as folder, ray_session():
        server = Server(Path(folder))
        try:
            for turn in range(TURNS):
                for delay, took in delays.items():
                    with Proxy(server.port) as proxy:
                        scratch = Path(folder) / f"{turn}-{delay:g}"
                        proxy.delay_s = delay
                        took.append(seconds(scratch, trials, proxy.address))
                        sys.stderr.write(f"{delay:g} s late: {took[-1]:.1f} s\n")
        finally:
            server.signal(signal.SIGKILL)
    at_once, late = (statistics.median(took) for took in delays.values())
    ratio = round(late / at_once, 3)
    print(
        json.dumps(
            {
                "benchmark": "slow-server",
                "value": round(late, 1),
                "unit": "s",
                "peer": round(at_once, 1),
                "ratio": ratio,
                "goal": f"<= {GOAL} times as long",
                "pass": ratio <= GOAL,
            }
        )
    )


if __name__ == "__main__":
    main()
