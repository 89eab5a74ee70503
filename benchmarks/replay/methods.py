"""The methods by name, and one run of one of them."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, cast

from replay import kept
from replay.clock import Method, Trajectory, simulate
from replay.curves import Ranges, curves_of, lcbench, version

WORKERS = 4
# Name -> the module whose `method(ranges, seed)` makes it. Only peers' runs are kept on disk.
PEERS = "replay.peers."
METHODS = {
    "raysearch": "replay.ours",
    "random": PEERS + "random",
    "tpe": PEERS + "tpe",
    "tpe+hyperband": PEERS + "tpe_hyperband",
    "tpe+successive-halving": PEERS + "tpe_successive_halving",
    "ray-asha-g1": PEERS + "ray_asha_g1",
    "asha-g5+tpe": PEERS + "asha_g5_tpe",
    "syne-tune-asha": PEERS + "syne_tune_asha",
}


def make(name: str, ranges: Ranges, seed: int) -> Method:
    """The method `name` at its beginning."""
    return cast(Method, importlib.import_module(METHODS[name]).method(ranges, seed))


def trajectory(name: str, task: str, seed: int, end_s: float) -> Trajectory:
    """The incumbents of one run until `end_s`; a peer's come from the disk where it ran before."""
    where = _where(name, task, seed) if METHODS[name].startswith(PEERS) else None
    found = kept.read(where) if where else None
    if found is None or found["end_s"] < end_s:
        run = simulate(make(name, lcbench().SPACE, seed), curves_of(task), WORKERS, end_s)
        found = {"end_s": end_s, "trajectory": run}
        if where:
            kept.write(where, found)
    return [(when, value) for when, value in found["trajectory"]]


def _where(name: str, task: str, seed: int) -> str:
    module: Any = importlib.import_module(METHODS[name])
    here = Path(__file__).parent
    files = [Path(module.__file__), here / "peers" / "optuna_study.py", here / "clock.py"]
    libraries = (*module.LIBRARIES, "onnxruntime")
    code = kept.fingerprint(libraries, files, version(), str(WORKERS))
    return f"{name}/{task}-{seed}-{code}.json"
