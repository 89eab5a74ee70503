"""The methods by name, and one run of one of them."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, cast

from replay import result_cache
from replay.clock import Method, Trajectory, simulate
from replay.curves import Ranges, curves_of, lcbench, version

WORKERS = 4
# Name -> the module whose `method(ranges, seed)` makes it. Only the peers' runs are cached on disk.
PEERS = "replay.peers."
METHODS = {
    "raysearch": "replay.raysearch_method",
    "random": PEERS + "random",
    "tpe": PEERS + "tpe",
    "tpe+hyperband": PEERS + "tpe_hyperband",
    "tpe+successive-halving": PEERS + "tpe_successive_halving",
    "ray-asha-g1": PEERS + "ray_asha_g1",
    "asha-g5+tpe": PEERS + "asha_g5_tpe",
    "syne-tune-asha": PEERS + "syne_tune_asha",
}


def make(name: str, ranges: Ranges, seed: int) -> Method:
    """Create the method `name`."""
    return cast(Method, importlib.import_module(METHODS[name]).method(ranges, seed))


def trajectory(name: str, task: str, seed: int, end_s: float) -> Trajectory:
    """The incumbents of one run until `end_s`; those of a peer are cached."""
    cache_name = _cache_name(name, task, seed) if METHODS[name].startswith(PEERS) else None
    run = result_cache.read(cache_name) if cache_name else None
    if run is None or run["end_s"] < end_s:
        incumbents = simulate(make(name, lcbench().SPACE, seed), curves_of(task), WORKERS, end_s)
        run = {"end_s": end_s, "trajectory": incumbents}
        if cache_name:
            result_cache.write(cache_name, run)
    return [(time_s, value) for time_s, value in run["trajectory"]]


def _cache_name(name: str, task: str, seed: int) -> str:
    module: Any = importlib.import_module(METHODS[name])
    package = Path(__file__).parent
    files = [Path(module.__file__), package / "peers" / "optuna_study.py", package / "clock.py"]
    libraries = (*module.LIBRARIES, "onnxruntime")
    code = result_cache.fingerprint(libraries, files, version(), str(WORKERS))
    return f"{name}/{task}-{seed}-{code}.json"
