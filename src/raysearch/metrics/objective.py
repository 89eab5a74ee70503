"""Compares values of the objective, whether it is maximized or minimized."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal


def objective_sign(mode: str) -> float:
    """Return the factor by which a larger objective is always better.

    Args:
        mode: "max" if larger values are better, "min" if smaller ones are.
    """
    return 1.0 if mode == "max" else -1.0


def sort_key(value: float, mode: str) -> float:
    """Return a key that sorts values from the best to the worst."""
    return -objective_sign(mode) * value


def is_better(value: float, reference: float, mode: str) -> bool:
    """Return whether `value` is strictly better than `reference`."""
    return value > reference if mode == "max" else value < reference


def reaches(value: float, target: float, mode: str) -> bool:
    """Return whether `value` is as good as `target`, or better."""
    return value >= target if mode == "max" else value <= target


def optimization_direction(mode: str) -> Literal["maximize", "minimize"]:
    """Return Optuna's name for `mode`, "maximize" or "minimize"."""
    return "maximize" if mode == "max" else "minimize"


def best_value(values: Iterable[float], mode: str) -> float:
    """Return the best of `values`."""
    return max(values) if mode == "max" else min(values)
