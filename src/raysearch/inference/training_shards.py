"""The shards that a model was trained on, if they are at hand, and the size of their pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

from raysearch.data.files import Folder
from raysearch.data.shards.rows import View
from raysearch.data.shards.shard_manifest import read_manifest
from raysearch.data.slides.slide_reader import MAX_MPP, MIN_MPP
from raysearch.errors import DataError, UserError
from raysearch.inference.model_loading import Model, study_folder
from raysearch.search.study.stored_study import load_study

# Sides of a pixel that differ by less, relative to them, are equal: they are decimal numbers.
MPP_PRECISION = 1e-6


@dataclass(frozen=True)
class TrainingShards:
    """The shards that a model was trained on.

    Attributes:
        data: Their path or address.
        view: Their rows without the held-out test set.
        mpp: The side of a pixel of a patch in micrometres; None if the shards do not record it.
    """

    data: str
    view: View
    mpp: float | None


@dataclass(frozen=True)
class MissingShards:
    """Shards that are not at hand.

    Attributes:
        reason: Why, in words, and what to do.
    """

    reason: str


def find_training_shards(model: Model) -> TrainingShards | MissingShards:
    """Find the shards that a model was trained on, by the folder of its study."""
    try:
        plan = load_study(study_folder(model)).plan
        manifest = read_manifest(Folder(plan.data))
        if manifest.fingerprint != plan.fingerprint:
            raise DataError(f"{plan.data}: other shards than those of the study {plan.name!r}")
    except UserError as error:
        return MissingShards(str(error))
    settings = manifest.tile_settings
    return TrainingShards(plan.data, plan.view, None if settings is None else settings.mpp)


def check_mpp(mpp: float | None) -> None:
    """Raise DataError if the side of a pixel that a user names, in micrometres, is no slide's."""
    if mpp is not None and not MIN_MPP <= mpp <= MAX_MPP:
        raise DataError(f"--mpp {mpp:g}: give {MIN_MPP:g} to {MAX_MPP:g} micrometres a pixel")


def patch_mpp(mpp: float | None, shards: TrainingShards | MissingShards) -> float:
    """Return the side of a pixel of the patches that a model was trained on, in micrometres.

    Args:
        mpp: What the user names; None if nothing.
        shards: The training shards.

    Raises:
        DataError: If neither the user nor the shards name it, it is out of its range, or the two
            contradict each other.
    """
    check_mpp(mpp)
    recorded = None if isinstance(shards, MissingShards) else shards.mpp
    if recorded is not None:
        if mpp is not None and not math.isclose(mpp, recorded, rel_tol=MPP_PRECISION):
            raise DataError(
                f"--mpp {mpp:g}: the training shards have pixels of {recorded:g} micrometres;"
                " remove --mpp"
            )
        return recorded
    if mpp is not None:
        return mpp
    reason = (
        f"the training shards are not at hand ({shards.reason})"
        if isinstance(shards, MissingShards)
        else f"the training shards {shards.data} do not record it"
    )
    raise DataError(
        f"the side of a pixel is unknown, because {reason}; give it in micrometres, such as"
        " --mpp 0.5"
    )
