"""How much a tracking server that takes a second a request slows a study.

    uv run python benchmarks/slow_server.py [--trials 60]

Trials of two reports that sleep for a second, on two slots, with the same tracking server at once
and a second late, in turns, and the other way round in every second turn. The final flush does not
count, nor do the four trials before these, in which the slots start.
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

from raysearch.search.engine.session import search
from raysearch.search.tracking.tracker import Tracker
from scale import SECONDS, nap, ray_of, seconds_taken, study_of
from support.tracking_server import Proxy, Server

SLOTS, TURNS, GOAL = 2, 2, 1.05


def seconds(scratch: Path, trials: int, address: str) -> float:
    """What `trials` take until the last has ended, flushed or not."""
    study = study_of(scratch, trials, SLOTS, f"study-{scratch.name}")
    tracker = Tracker(study.plan, address)
    study.listeners.append(tracker.send)
    study.begin()
    search(study, nap)
    took = seconds_taken(study, SLOTS)
    if tracker.close("FINISHED", 600) is not None:
        raise SystemExit("the server was not told all")
    return took


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--trials", type=int, default=60)
    trials = options.parse_args().trials
    os.environ[SECONDS] = "1"
    delays: dict[float, list[float]] = {0.0: [], 1.0: []}
    with tempfile.TemporaryDirectory() as folder, ray_of(SLOTS):
        server = Server(Path(folder))
        try:
            for turn in range(TURNS):
                for delay, took in list(delays.items())[:: -1 if turn % 2 else 1]:
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
