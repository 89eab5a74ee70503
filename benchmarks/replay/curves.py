"""LCBench's curves: where they are read, drawn at random, and kept once computed."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np

from raysearch.errors import UserError
from replay.clock import Config

EPOCHS = 52
# Rows of one call: larger ones fall out of the processor's cache.
ROWS = 8 * EPOCHS
# Name -> (int or float, low, high, whether on a log scale), as lcbench's SPACE has it.
Ranges = Mapping[str, tuple[str, float, float, bool]]


def lcbench() -> ModuleType:
    """The module lcbench, from the folder that LCBENCH names."""
    folder = os.environ.get("LCBENCH", "")
    if not (Path(folder) / "lcbench.py").is_file():
        raise UserError(
            f"LCBENCH is {folder!r}: set it to the folder in which lcbench.py and its curves lie"
        )
    if folder not in sys.path:
        sys.path.append(folder)
    try:
        return importlib.import_module("lcbench")
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is not installed; run `uv sync --group replay`") from None


def tasks_known() -> list[str]:
    """Every task of the surrogate, of which lcbench's TASKS are the default."""
    codes = json.loads((Path(lcbench().FOLDER) / "encoding.json").read_text())["OpenML_task_id"]
    return [task for task in codes if task != "#na#"]


@cache
def version() -> str:
    """A hash of the surrogate, by which results of another one are not mistaken for its own."""
    folder = Path(lcbench().FOLDER)
    parts = [(folder / name).read_bytes() for name in ("model.onnx", "encoding.json")]
    return hashlib.sha256(b"".join(parts)).hexdigest()[:12]


class Curves:
    """The curves of one task; each configuration is computed once in a process."""

    def __init__(self, task: str) -> None:
        self._curves = lcbench().Curves(task)
        self._kept: dict[tuple[float, ...], tuple[np.ndarray, np.ndarray]] = {}

    def __call__(self, config: Config) -> tuple[np.ndarray, np.ndarray]:
        """Cumulative seconds and accuracy in percent, each of shape (52,)."""
        key = tuple(config[name] for name in lcbench().SPACE)
        if key not in self._kept:
            self._kept[key] = self._curves(config)
        return self._kept[key]

    def many(self, configs: list[dict[str, float]]) -> tuple[np.ndarray, np.ndarray]:
        """The same of many configurations at once, each of shape (configurations, 52)."""
        names = lcbench().INPUTS
        table = np.array([[config.get(name, 0.0) for name in names] for config in configs])
        rows = np.repeat(table.astype(np.float32), EPOCHS, axis=0)
        rows[:, names.index("epoch")] = np.tile(np.arange(1, EPOCHS + 1), len(configs))
        parts = [self._run(rows[start : start + ROWS]) for start in range(0, len(rows), ROWS)]
        outputs = np.concatenate(parts).reshape(len(configs), EPOCHS, -1)
        seconds = np.maximum.accumulate(np.maximum(outputs[..., 0], 1e-3), axis=1)
        return seconds, outputs[..., 1]

    def _run(self, rows: np.ndarray) -> np.ndarray:
        code = np.full((len(rows), 1), self._curves._code, np.int32)  # noqa: SLF001
        inputs = {"x_cat": code, "x_cont": rows}
        outputs: np.ndarray = self._curves._session.run(None, inputs)[0]  # noqa: SLF001
        return outputs


@cache
def curves_of(task: str) -> Curves:
    """The curves of `task`, the same for all runs in this process."""
    return Curves(task)


def draw(ranges: Ranges, count: int, seed: int) -> list[dict[str, float]]:
    """`count` configurations at random: uniform, or log-uniform where the range says so.

    An integer is a draw from half below `low` to half above `high`, rounded.
    """
    generator = np.random.default_rng(seed)
    columns = {}
    for name, (kind, low, high, log) in ranges.items():
        half = 0.5 if kind == "int" else 0.0
        ends = np.array([low - half, high + half])
        start, end = np.log(ends) if log else ends
        column = generator.uniform(start, end, count)
        column = np.exp(column) if log else column
        columns[name] = np.clip(np.rint(column), low, high) if kind == "int" else column
    return [
        {name: float(column[index]) for name, column in columns.items()} for index in range(count)
    ]
