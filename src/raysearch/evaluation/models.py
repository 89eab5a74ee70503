"""A trained model, loaded from where it is kept, and what it gives patches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from raysearch.data.view import View
from raysearch.errors import StudyError
from raysearch.evaluation.champion import champion_of
from raysearch.search.folder import StudyFolder
from raysearch.search.plan import Plan
from raysearch.search.study import read_history, read_plan

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Learned:
    """What a model learned from: the shards at `data` by `view`, and `auxiliary` ones."""

    data: str
    fingerprint: str
    view: View
    auxiliary: tuple[str, ...] = ()


@dataclass(frozen=True)
class Model:
    """A net with all that it needs: uint8 patches in, calibrated probabilities out."""

    name: str
    trial: str
    class_names: tuple[str, ...]
    shape: tuple[int, int, int]
    threshold: float | None
    identity: str
    learned: Learned | None
    net: nn.Module


def load_model(address: str, studies: str) -> Model:
    """The champion of the study `address` below `studies`."""
    folder = StudyFolder(f"{studies}/{address}")
    plan, history = read_plan(folder), read_history(folder)
    trial, net = champion_of(folder, plan, history)
    return Model(
        f"{plan.name}, trial {trial.id}",
        trial.id,
        plan.class_names,
        plan.shape,
        history.locked.get("threshold"),
        f"{plan.identity}/{trial.id}",
        _learned(plan),
        net,
    )


def _learned(plan: Plan) -> Learned:
    return Learned(
        plan.data, plan.fingerprint, plan.view, tuple(one.data for one in plan.auxiliary)
    )


def score(
    model: Model,
    pixels: NDArray[np.uint8],
    batch: int = 512,
    progress: Progress = lambda _done, _all: None,
) -> NDArray[np.float64]:
    """What `model` gives patches, uint8 (N, H*W*3): probabilities (N, C)."""
    found = []
    with torch.inference_mode():
        for start in range(0, len(pixels), batch):
            some = torch.from_numpy(np.array(pixels[start : start + batch]))
            found.append(model.net(some.view(-1, *model.shape)).double().numpy())
            progress(start + len(some), len(pixels))
    given = np.concatenate(found)
    if not np.isfinite(given).all():
        row = int(np.flatnonzero(~np.isfinite(given).all(axis=1))[0])
        raise StudyError(f"{model.name} gives row {row} no number; its weights are of no use")
    return given
