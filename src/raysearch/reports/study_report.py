"""What a report of a study tells: how its champion was chosen, and how it did on each set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from raysearch.champion.trained_networks import champion_scores
from raysearch.data.files import Folder
from raysearch.data.patches import load_rows
from raysearch.data.shards.shard_manifest import Manifest, read_manifest
from raysearch.errors import StudyError, UserError
from raysearch.metrics.bootstrap import Interval
from raysearch.metrics.calibration import Reliability, reliability, tempered
from raysearch.metrics.evaluation import Assessment, Scored, assess
from raysearch.metrics.plausibility import Note, check_anchor, check_baseline, check_tables
from raysearch.search.journal.history import History, Trial
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.fold_scores import OutOfFold
from raysearch.search.study.plan import Plan
from raysearch.search.study.study import read_history, read_plan
from raysearch.selection.pooled_scores import auroc_in_context, places_of
from raysearch.selection.selection import Selection, select
from raysearch.testing.test_results import HELD_OUT, About, kept, scores_of

OUT_OF_FOLD = "out of fold"


@dataclass(frozen=True)
class Set:
    """One set that the champion was judged on: its rows with their scores, and all said of them.

    `before` is the reliability without the temperature, and `in_context` the AUROC with what the
    patches near each one say, where they are known; `about` is None of the study's own folds.
    """

    name: str
    text: str
    scored: Scored
    found: Assessment
    notes: tuple[Note, ...]
    before: Reliability | None = None
    in_context: Interval | None = None
    about: About | None = None


@dataclass(frozen=True)
class Report:
    """A study with a champion, as it is told; the first of `sets` is the study's own folds.

    Its patches are the `rows` (N,) of the study's view of its shards, on the `slides` (N,), where
    it is known of all where they lie. `manifest` is that of the shards, where they are still there.
    `notes` say what was left out.
    """

    plan: Plan
    history: History
    champion: Trial
    selection: Selection
    sets: tuple[Set, ...]
    rows: NDArray[np.int64]
    slides: NDArray[np.str_] | None
    manifest: Manifest | None
    notes: tuple[str, ...] = ()


def study_report(folder: StudyFolder) -> Report:
    """What is to be told of the study in `folder`; StudyError where it has no champion yet."""
    plan, history = read_plan(folder), read_history(folder)
    if history.champion is None or not history.locked:
        raise StudyError(
            f"study {plan.name!r} has no champion yet; let it end, or choose one by `raysearch"
            " select`"
        )
    champion = history.trials[history.champion]
    selection = select(folder, plan, history, float(history.locked["margin"]))
    raw = champion_scores(folder, plan, champion, history.locked)
    manifest = _manifest(plan.data)
    form = manifest.format if manifest else ""
    sets = [_own(plan, history, raw, form)]
    judged = kept(folder)
    mine = [one for one in judged if (one.trial, one.seed) == (champion.id, _seed_of(history))]
    sets += [_other(folder, about, form) for about in mine]
    notes = tuple(
        f"{one.name} was judged by {one.model}, which is the champion no more, and is left out"
        for one in judged
        if one not in mine
    )
    slides = _slides(plan, raw)
    return Report(
        *(plan, history, champion, selection, tuple(sets), raw.rows, slides, manifest, notes)
    )


def _seed_of(history: History) -> int | None:
    """The fresh seed of an ensemble's nets; None of a refit."""
    return history.locked.get("seed")


def _manifest(data: str) -> Manifest | None:
    """What the shards at `data` say of themselves; None where they have gone."""
    try:
        return read_manifest(Folder(data))
    except UserError:
        return None


def set_of(name: str, text: str, scored: Scored, notes: Sequence[str] = ()) -> Set:
    """`scored` rows as a set of their own, of which `notes` are to be known, too."""
    found = assess(scored)
    return Set(name, text, scored, found, (*map(Note, notes), *_notes(found, "")))


def _own(plan: Plan, history: History, raw: OutOfFold, form: str) -> Set:
    locked = history.locked
    probabilities = tempered(raw.probabilities, float(locked["temperature"]))
    scored = Scored(
        *(raw.labels, probabilities, raw.patients),
        *(plan.class_names, locked["threshold"]),
    )
    found = assess(scored, raw.folds)
    text = (
        "Each patch by the model of the fold that did not learn from its patient, at the locked"
        " temperature and threshold. The champion was chosen by these very patients, and both were"
        " fitted to them, so that these figures flatter it."
    )
    before = reliability(raw.labels, raw.probabilities)
    near = _in_context(plan, replace(raw, probabilities=probabilities))
    return Set(OUT_OF_FOLD, text, scored, found, _notes(found, form), before, near)


def _in_context(plan: Plan, calibrated: OutOfFold) -> Interval | None:
    """None as well where the shards have gone, which alone know where the patches lie."""
    try:
        near = auroc_in_context(calibrated, plan)
    except UserError:
        return None
    return None if near is None else near.pooled


def _other(folder: StudyFolder, about: About, form: str) -> Set:
    scored = scores_of(folder, about)
    found = assess(scored)
    if about.name == HELD_OUT:
        opened = about.opening.get("by_this_study", 1)
        often = "once" if opened == 1 else f"{opened} times"
        text = (
            f"The patients that were put aside, judged on {about.at} by {about.model}. Opened"
            f" {often} by this study, {about.opening.get('by_all', 1)} times in all."
        )
    else:
        text = f"Shards from elsewhere, {about.data}, judged on {about.at} by {about.model}."
    if about.name != HELD_OUT:
        manifest = _manifest(about.data)
        form = manifest.format if manifest else ""
    notes = (*(Note(one) for one in about.notes), *_notes(found, form))
    return Set(about.name, text, scored, found, notes, in_context=about.in_context, about=about)


def _notes(found: Assessment, form: str) -> tuple[Note, ...]:
    return (*check_tables(found), *check_anchor(form, found), *check_baseline(found))


def _slides(plan: Plan, raw: OutOfFold) -> NDArray[np.str_] | None:
    """The slides of the judged patches, where it is known of each where it lies there."""
    try:
        rows = load_rows(plan.data, plan.view)
    except UserError:
        return None
    if places_of(rows, raw) is None:
        return None
    return np.asarray(rows.slides[raw.rows])


def fresh_text(report: Report) -> str:
    """The champion's objective with fresh seeds, and how often they failed; empty without any."""
    history = report.history
    values = ", ".join(f"{one:.4f}" for one in history.fresh)
    failed = [
        why for (trial, _), why in history.repeat_failures.items() if trial == history.champion
    ]
    told = [f"{report.plan.space.metric} {values}"] if values else []
    told += [f"{len(failed)} failed ({', '.join(sorted(set(failed)))})"] if failed else []
    return "; ".join(told)
