"""A trained model, loaded from where it is kept, and what it gives patches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from raysearch.champion.model_artifact import ModelArtifact, pack_artifact, unpack_artifact
from raysearch.champion.registration import champion_of
from raysearch.errors import StudyError
from raysearch.models.classifier import Classifier
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.study import read_history, read_plan
from raysearch.search.tracking.model_registry import ALIAS, RECIPE_PLACE, fetch_recipe
from raysearch.search.tracking.tracker import default_store

Progress = Callable[[int, int], None]
REGISTERED = "models:/"
BATCH = 512


@dataclass(frozen=True)
class Model:
    """A champion that can be used: `recipe` says what it is, `net` gives probabilities.

    `identity` is a hash over weights and recipe.
    """

    recipe: ModelArtifact
    net: Classifier
    identity: str

    @property
    def name(self) -> str:
        """What people call it."""
        members = self.recipe.members
        made_of = f", an ensemble of {members}" if members > 1 else ""
        return f"{self.recipe.study}, trial {self.recipe.trial}{made_of}"


def load_model(address: str, studies: str) -> Model:
    """The model at `address`: a study below `studies`, a registered one, or a model's folder.

    Nothing is unpickled: what no study of this package made is rejected. StudyError where there is
    none, or it is damaged.
    """
    if address.startswith(REGISTERED):
        content, tags = fetch_recipe(address, default_store())
        return _with_tags(unpacked(content, address), tags)
    folder = StudyFolder(f"{studies}/{address}")
    if folder.exists(folder.PLAN):
        return _of_study(folder)
    file = Path(address) / RECIPE_PLACE
    if file.is_file():
        return unpacked(file.read_bytes(), str(file))
    if (Path(address) / "MLmodel").is_file():
        raise StudyError(
            f"{address}: a model that no study made, and to load it would run what its files say;"
            " give one that `raysearch launch` registered"
        )
    raise StudyError(
        f"{address}: no model; give the name of a study in {studies}, {REGISTERED}NAME@{ALIAS}, or"
        " a folder with a registered model"
    )


def _of_study(folder: StudyFolder) -> Model:
    plan, history = read_plan(folder), read_history(folder)
    recipe, net = champion_of(folder, plan, history)
    return Model(recipe, net, sha256(pack_artifact(recipe, net)).hexdigest())


def unpacked(content: bytes, place: str) -> Model:
    """The model of a recipe's `content` from `place`; StudyError where it is damaged."""
    try:
        recipe, net = unpack_artifact(content)
    except ValueError as error:
        raise StudyError(f"{place}: {error}; register the champion again") from None
    return Model(recipe, net, sha256(content).hexdigest())


def _with_tags(model: Model, tags: Mapping[str, str]) -> Model:
    """`model` with the threshold of its version, which a later selection may have moved."""
    if "threshold" not in tags:
        return model
    return replace(model, recipe=replace(model.recipe, threshold=float(tags["threshold"])))


@torch.inference_mode()
def score(
    model: Model,
    pixels: NDArray[np.uint8],
    progress: Progress = lambda _done, _all: None,
    batch: int = BATCH,
) -> NDArray[np.float64]:
    """What `model` gives patches, uint8 (N, H*W*3): calibrated probabilities (N, C).

    On a GPU where there is one. `progress` hears how many are done, of how many. StudyError where
    what comes is no number.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net = model.net.to(device)
    found = np.empty((len(pixels), len(model.recipe.class_names)))
    for start in range(0, len(pixels), batch):
        some = torch.from_numpy(np.ascontiguousarray(pixels[start : start + batch]))
        given = net(some.to(device).view(-1, *model.recipe.shape))
        found[start : start + len(some)] = given.double().cpu().numpy()
        progress(start + len(some), len(pixels))
    broken = np.flatnonzero(~np.isfinite(found).all(axis=1))
    if len(broken):
        raise StudyError(
            f"{model.name} gives patch {broken[0]} and {len(broken) - 1:,} more no number; refit or"
            " select another champion"
        )
    return found
