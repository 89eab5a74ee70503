"""A model judged on labelled shards from elsewhere, of which it must not have learned any."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np

from raysearch.data.patches import Patches, Rows, load_hashes, load_patches, load_rows
from raysearch.data.view import View
from raysearch.errors import DataError, UserError
from raysearch.evaluation.evaluated import SEALED, About, set_name
from raysearch.evaluation.models import Model, Progress, score
from raysearch.evaluation.recipe import Learned
from raysearch.evaluation.sealed import Judged
from raysearch.scores.assessment import Scored


def judge_outside(
    model: Model, data: str, task: str, name: str | None, progress: Progress
) -> Judged:
    """What `model` gives the rows of the shards at `data` that have a label in `task`.

    DataError where their size or classes are not the model's, or a patient or a patch of theirs was
    learned from; where that cannot be looked up, a note says so.
    """
    chosen = name or set_name(data)
    if chosen == SEALED:
        raise DataError(f"--name {SEALED}: is the study's own test set; choose another")
    view = View(task)
    rows = load_rows(data, view)
    _refuse_unlike(model, rows, data)
    notes = _refuse_shared(model.recipe.learned, rows, data, view)
    patches = _named(load_patches(data, view=view), model.recipe.class_names)
    about = About(
        name=chosen,
        data=data,
        fingerprint=patches.fingerprint,
        model=model.name,
        trial=model.recipe.trial,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        class_names=model.recipe.class_names,
        threshold=model.recipe.threshold,
        notes=(*rows.warnings, *notes),
    )
    given = score(model, patches.pixels, progress=progress)
    scored = Scored(
        patches.labels, given, patches.patients, model.recipe.class_names, model.recipe.threshold
    )
    return Judged(patches, scored, about)


def _refuse_unlike(model: Model, rows: Rows, data: str) -> None:
    if rows.shape != model.recipe.shape:
        wrong, right = (f"{one[1]}x{one[0]}" for one in (rows.shape, model.recipe.shape))
        raise DataError(
            f"{data}: patches of {wrong}, and {model.name} takes {right}; shard them again with"
            f" --size {right}"
        )
    unknown = sorted(set(rows.class_names) - set(model.recipe.class_names))
    if unknown:
        raise DataError(
            f"{data}: class {unknown[0]!r} is none of those of {model.name}"
            f" ({', '.join(model.recipe.class_names)}); name its task by --task, or shard it again"
            " with --classes"
        )


def _refuse_shared(learned: Learned, rows: Rows, data: str, view: View) -> list[str]:
    """DataError where a patient or a patch was learned from; a note where nobody can tell."""
    notes = []
    for place, seen in [(learned.data, learned.view), *learned.auxiliary]:
        try:
            known, hashes = load_rows(place, seen), load_hashes(place, seen)
        except UserError as fault:
            notes.append(f"shared patients cannot be ruled out: {fault}")
            continue
        both = sorted(set(rows.patients.tolist()) & set(known.patients.tolist()))
        if both:
            raise DataError(
                f"{data}: patient {both[0]!r}, one of {len(both):,}, was learned from in {place};"
                " give shards of other patients"
            )
        same = int(np.isin(load_hashes(data, view), hashes).sum())
        if same:
            raise DataError(
                f"{data}: {same:,} of its patches have the very pixels of some that were learned"
                f" from in {place}; give shards of other images"
            )
    return notes


def _named(patches: Patches, class_names: tuple[str, ...]) -> Patches:
    """`patches` with labels that are numbers of `class_names`."""
    places = np.array([class_names.index(name) for name in patches.class_names], np.int64)
    return replace(patches, labels=places[patches.labels], class_names=class_names)
