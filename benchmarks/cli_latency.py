"""CPU seconds that commands take before they answer, as multiples of `import typer, rich.table`.

    .venv/bin/python benchmarks/cli_latency.py

Each command runs five times in a process of its own; the best counts. Python's caches of compiled
modules are on: `PYTHONDONTWRITEBYTECODE` is removed from the environment. The study whose results
are read is made first, by one short launch. With `--python PATH` the commands of another
installation are timed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

TOP = Path(__file__).parents[1]
RUNS = 5
REFERENCE = ["-c", "import typer, rich.table"]
# What is timed -> the multiple of the reference that it may take.
GOALS = {
    "--help": 1.5,
    "a wrong path": 2.0,
    "a typo in a space": 4.0,
    "results of a finished study": 5.0,
    "launch --dry-run of the quickstart": 15.0,
}
SPACE = """
data: synthetic:12:240:0
objective: {metric: auroc, mode: max}
epochs: 1
trials: 3
seed: 0
resources: {cpus: 1, gpus: 0}
space:
  folds: 2
  architecture: cnn
  width: {choice: [4, 8]}
  learning_rate: {loguniform: [1.0e-3, 3.0e-2]}
"""


def cpu_seconds(command: list[str], folder: Path) -> float:
    """Return user and system seconds of `command` and of the processes that it waited for."""
    environment = {
        name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
    }
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def commands(python: Path, folder: Path) -> dict[str, list[str]]:
    """Return the timed commands; makes the files and the study that they need in `folder`."""
    raysearch = [str(python.with_name("raysearch"))]
    (folder / "good.yaml").write_text(SPACE)
    (folder / "typo.yaml").write_text(SPACE.replace("learning_rate", "lerning_rate"))
    subprocess.run(
        [*raysearch, "launch", "good.yaml", "--name", "done"],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    quickstart = str(TOP / "searchspace" / "quickstart.yaml")
    return {
        "--help": [*raysearch, "--help"],
        "a wrong path": [*raysearch, "launch", "missing.yaml"],
        "a typo in a space": [*raysearch, "launch", "typo.yaml"],
        "results of a finished study": [*raysearch, "results", "done"],
        "launch --dry-run of the quickstart": [*raysearch, "launch", quickstart, "--dry-run"],
    }


def main() -> None:
    """Print a row for each command, then a JSON line about the one furthest from its goal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", type=Path, default=Path(sys.executable))
    python = parser.parse_args().python.absolute()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        timed = commands(python, folder)
        best = dict.fromkeys(["reference", *timed], float("inf"))
        for _run in range(RUNS):
            reference = cpu_seconds([str(python), *REFERENCE], folder)
            best["reference"] = min(best["reference"], reference)
            for name, command in timed.items():
                best[name] = min(best[name], cpu_seconds(command, folder))
    ratios = {name: best[name] / best["reference"] for name in GOALS}
    for name, goal in GOALS.items():
        print(f"{name:36} {best[name]:6.2f} s {ratios[name]:6.1f} x, goal {goal:g} x")
    worst = max(GOALS, key=lambda name: ratios[name] / GOALS[name])
    line = {
        "benchmark": "cli_latency",
        "value": round(ratios[worst], 2),
        "unit": f"x import typer, rich.table ({worst})",
        "peer": round(best["reference"], 3),
        "ratio": round(ratios[worst] / GOALS[worst], 2),
        "goal": GOALS[worst],
        "pass": all(ratios[name] <= goal for name, goal in GOALS.items()),
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
