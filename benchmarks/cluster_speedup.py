"""Measures the speedup of a study by a second worker host, on simulated hosts after `ray up`.

    .venv/bin/python benchmarks/cluster_speedup.py [--train]

It requires root: the hosts are network namespaces of this machine, with one slot each, and the head
and the launcher share its cores. A fold-epoch waits two seconds instead of training; with `--train`
it trains, and there is no goal. Value: fold-epochs per second on two hosts; peer: on one host.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

TOP = Path(__file__).parents[1]
sys.path.insert(0, str(TOP / "tests"))

from cluster.testbed import ClusterTestbed, open_testbed  # noqa: E402
from raysearch.search.journal.events import FoldReport  # noqa: E402

GOAL = 1.7
WAIT_S = 2.0
# Runs in every process of the hosts; the workers wait instead of training.
WAITING = f"""
import sys
if sys.argv and sys.argv[0].endswith("default_worker.py"):
    import time
    from raysearch.training.fold_training import FoldTrainer
    FoldTrainer.train_epoch = lambda self, epoch: time.sleep({WAIT_S}) or 0.5
"""
SPACE = """
epochs: 4
trials: 12
sampler: tpe
stopping: {rule: asha, grace_period: 4, reduction_factor: 2, paired_alpha: 0}
data: synthetic:8:64:0
space:
  folds: 2
  architecture: benchmark
  learning_rate: {loguniform: [1.0e-4, 1.0e-2]}
"""
TRAINING_SPACE = (
    SPACE.replace("benchmark", "cnn").replace("8:64:0", "12:2400:0").replace("12\n", "8\n")
)


def fold_epochs_per_second(testbed: ClusterTestbed, name: str, space: Path) -> float:
    """Run the study `name`; return its rate from the fourth report to the last."""
    command = ["raysearch", "launch", str(space), "--on", str(testbed.file), "--name", name]
    testbed.run(*command, timeout_s=1200)
    reports = [event for event in testbed.events(name) if isinstance(event, FoldReport)]
    times = [report.time for report in reports[3:]]
    return (len(times) - 1) / float(times[-1] - times[0])


def main() -> None:
    train = "--train" in sys.argv
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "sitecustomize.py").write_text("" if train else WAITING)
        space = Path(folder) / "space.yaml"
        space.write_text(TRAINING_SPACE if train else SPACE)
        with open_testbed(PYTHONPATH=folder) as testbed:
            testbed.run("ray", "up", "-y", "--no-config-cache", str(testbed.file))
            try:
                testbed.await_nodes()
                rate_on_two = fold_epochs_per_second(testbed, "two", space)
                testbed.workers[1].kill()
                rate_on_one = fold_epochs_per_second(testbed, "one", space)
            finally:
                testbed.run("ray", "down", "-y", str(testbed.file))
    ratio = rate_on_two / rate_on_one
    line = {
        "benchmark": "cluster_training" if train else "cluster_waiting",
        "value": round(rate_on_two, 3),
        "unit": "fold-epochs/s",
        "peer": round(rate_on_one, 3),
        "ratio": round(ratio, 2),
        "goal": None if train else f">= {GOAL}",
        "pass": train or ratio >= GOAL,
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
