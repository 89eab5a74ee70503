"""How much faster a study runs on two worker hosts than on one, from `ray up` on real hosts.

    uv run python benchmarks/cluster_speedup.py [--train]

Wants root: the hosts are network namespaces of this machine, with one slot each; the head and the
launcher share its cores. Trials wait two seconds a fold-epoch instead of computing; with `--train`
they compute, without a goal. Value: fold-epochs a second on two hosts; peer: on one.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

TOP = Path(__file__).parents[1]
sys.path.insert(0, str(TOP / "tests"))

from cluster.ground import Ground, open_ground  # noqa: E402

GOAL = 1.7
WAIT_S = 2.0
# Runs in every process of the hosts; the workers wait where they would learn.
WAITING = f"""
import sys
if sys.argv and sys.argv[0].endswith("default_worker.py"):
    import time
    from raysearch.training.fold_training import FoldRun
    FoldRun.learn = lambda self, epoch: time.sleep({WAIT_S}) or 0.5
"""
SPACE = """
epochs: 4
trials: 12
sampler: tpe
stopping: {rule: asha, grace: 4, reduction: 2, paired: 0}
data: synthetic:8:64:0
space:
  folds: 2
  architecture: benchmark
  learning_rate: {loguniform: [1.0e-4, 1.0e-2]}
"""
LEARNING = SPACE.replace("benchmark", "cnn").replace("8:64:0", "12:2400:0").replace("12\n", "8\n")


def rate(ground: Ground, name: str, space: Path) -> float:
    """Fold-epochs a second of the study `name`, from its first report to its last."""
    words = ["raysearch", "launch", str(space), "--cluster", str(ground.file), "--name", name]
    ground.run(*words, timeout_s=1200)
    times = [event["at"] for event in ground.events(name) if event["event"] == "report"][3:]
    return (len(times) - 1) / float(times[-1] - times[0])


def main() -> None:
    train = "--train" in sys.argv
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "sitecustomize.py").write_text("" if train else WAITING)
        space = Path(folder) / "space.yaml"
        space.write_text(LEARNING if train else SPACE)
        with open_ground(PYTHONPATH=folder) as ground:
            ground.run("ray", "up", "-y", "--no-config-cache", str(ground.file))
            try:
                ground.await_nodes()
                two = rate(ground, "two", space)
                ground.workers[1].kill()
                one = rate(ground, "one", space)
            finally:
                ground.run("ray", "down", "-y", str(ground.file))
    ratio = two / one
    line = {
        "benchmark": "cluster_training" if train else "cluster_waiting",
        "value": round(two, 3),
        "unit": "fold-epochs/s",
        "peer": round(one, 3),
        "ratio": round(ratio, 2),
        "goal": None if train else f">= {GOAL}",
        "pass": train or ratio >= GOAL,
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
