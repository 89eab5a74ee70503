"""The reference of a task's regrets, which no method influences."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from replay import result_cache
from replay.curves import curves_of, draw, lcbench, version

RANDOM, MORE, SEED = 1_500, 20_000, 20_260
AT_ONCE = 500


@dataclass(frozen=True)
class Reference:
    """Accuracies in percent, and the mean seconds of a full training."""

    oracle: float
    median: float
    full_s: float

    def regret(self, incumbent: float) -> float:
        """0 at the oracle, 1 at the median; below 0 if a method exceeds the oracle."""
        return (self.oracle - incumbent) / (self.oracle - self.median)


def reference(task: str) -> Reference:
    """The reference of `task`: computed in about 20 seconds, and cached.

    The median and the mean time are those of the final epoch of 1,500 random configurations; the
    oracle is the best accuracy at any epoch of these and 20,000 more.
    """
    code = result_cache.fingerprint(
        ("numpy", "onnxruntime"),
        [Path(__file__), Path(__file__).with_name("curves.py")],
        version(),
    )
    name = f"reference/{task}-{code}.json"
    fields = result_cache.read(name)
    if fields is None:
        fields = asdict(_compute(task))
        result_cache.write(name, fields)
    return Reference(**fields)


def _compute(task: str) -> Reference:
    curves = curves_of(task)
    configs = draw(lcbench().SPACE, RANDOM + MORE, SEED)
    seconds, accuracy = curves.many(configs[:RANDOM])
    oracle = float(accuracy.max())
    for start in range(RANDOM, RANDOM + MORE, AT_ONCE):
        oracle = max(oracle, float(curves.many(configs[start : start + AT_ONCE])[1].max()))
    return Reference(oracle, float(np.median(accuracy[:, -1])), float(np.mean(seconds[:, -1])))
