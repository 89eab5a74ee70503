"""A model judged on labelled shards from elsewhere, of which it must not have learned any."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import numpy as np

from raysearch.champion.model_artifact import Learned
from raysearch.data.patches import Patches, Rows, load_hashes, load_patches, load_rows
from raysearch.data.shards.shard_manifest import LABEL
from raysearch.data.view import View
from raysearch.errors import DataError, UserError
from raysearch.inference.model_loading import Model, Progress, score
from raysearch.metrics.evaluation import Scored
from raysearch.testing.held_out_test import Judged
from raysearch.testing.test_results import HELD_OUT, About, set_name


@dataclass(frozen=True)
class Outside:
    """The shards at `data`, whose labels in `task` are judged, as the set `name`.

    `called` says what of their classes is called otherwise by the model.
    """

    data: str
    task: str = LABEL
    name: str | None = None
    called: Mapping[str, str] = field(default_factory=dict)

    def renamed(self, rows: Rows) -> tuple[str, ...]:
        """The classes of `rows` as the model calls them; DataError for a name that none has."""
        unknown = sorted(set(self.called) - set(rows.class_names))
        if unknown:
            raise DataError(
                f"--as {unknown[0]}=...: no class of {self.data}; they are"
                f" {', '.join(rows.class_names)}"
            )
        return tuple(self.called.get(one, one) for one in rows.class_names)


def judge_outside(model: Model, asked: Outside, progress: Progress) -> Judged:
    """What `model` gives the labelled rows that are `asked` for.

    DataError where their size or classes are not the model's, or a patient or a patch of theirs was
    learned from; where that cannot be looked up, a note says so.
    """
    data, chosen = asked.data, asked.name or set_name(asked.data)
    if chosen == HELD_OUT:
        raise DataError(f"--name {HELD_OUT}: is the study's own test set; choose another")
    view = View(asked.task)
    rows = load_rows(data, view)
    rows = replace(rows, class_names=asked.renamed(rows))
    _reject_unlike(model, rows, data)
    notes = _reject_shared(model.recipe.learned, rows, data, view)
    patches = load_patches(data, view=view)
    patches = _named(patches, rows.class_names, model.recipe.class_names)
    about = About(
        name=chosen,
        data=data,
        fingerprint=patches.fingerprint,
        model=model.name,
        trial=model.recipe.trial,
        seed=model.recipe.seed,
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


def _reject_unlike(model: Model, rows: Rows, data: str) -> None:
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
            f" ({', '.join(model.recipe.class_names)}); name its task by --task, or say what it"
            f" is called there by --as {unknown[0]}=NAME"
        )


def _reject_shared(learned: Learned, rows: Rows, data: str, view: View) -> list[str]:
    """DataError where a patient or a patch was learned from; a note where nobody can tell."""
    notes = []
    for place, seen in [(learned.data, learned.view), *learned.auxiliary]:
        try:
            known, hashes = load_rows(place, seen), load_hashes(place, seen)
        except UserError as error:
            notes.append(f"shared patients cannot be ruled out: {error}")
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


def _named(patches: Patches, own: tuple[str, ...], class_names: tuple[str, ...]) -> Patches:
    """`patches`, whose classes are `own`, with labels that are numbers of `class_names`."""
    places = np.array([class_names.index(name) for name in own], np.int64)
    return replace(patches, labels=places[patches.labels], class_names=class_names)
