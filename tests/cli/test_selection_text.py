"""The lines on a selection: what the repeats of the champion show, what proposed the trials."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from raysearch.champion.repeat_result import RepeatResult
from raysearch.cli.selection_text import proposal_lines, repeat_lines, selection_lines
from raysearch.cli.study_end import StudyEnd
from raysearch.config.space import ChampionKind
from raysearch.metrics.interval import Interval
from raysearch.search.journal.events import ChampionDecision
from raysearch.search.study.plan import Memory, MemorySource
from support.champion_studies import (
    ENSEMBLE_DECISION,
    REFIT_DECISION,
    study_with_started_trial,
)
from support.result_studies import TREE, new_study, train_next


def study_end(decision: ChampionDecision, *objectives: float | None) -> StudyEnd:
    """How a study ended whose repeats have these objectives; None for a failed one."""
    repeats = tuple(
        RepeatResult(1, None, "nan-loss")
        if objective is None
        else RepeatResult(1, Interval(0.9, objective, 0.95))
        for objective in objectives
    )
    return StudyEnd(
        study="repeated",
        champion="t0000",
        chosen="t0000",
        tied=("t0000",),
        decision=decision,
        objective=Interval(0.91, 0.9347, 0.95),
        corrected=Interval(0.9, 0.93, 0.95),
        repeats=repeats,
        pooled_auroc=None,
        smoothed_auroc=None,
        version="1",
        folder="studies/repeated",
        store="mlflow.db",
        tracking_error=None,
    )


@pytest.mark.parametrize(
    ("kind", "objectives", "lines"),
    [
        ("refit", (), []),
        (
            "refit",
            (0.9312,),
            [
                "Repeats   auroc 0.9312 (0.9000 to 0.9500) with another seed, 0.9347 at its"
                " selection"
            ],
        ),
        (
            "ensemble",
            (0.92, None, 0.94),
            [
                "Repeats   auroc 0.9300 (0.9200 to 0.9400) with 2 other seeds, 0.9347 at its"
                " selection; the training failed with 1 of 3 (nan-loss)",
                "Ensemble  the mean of 2 networks, one per fold of a repeat",
            ],
        ),
        ("refit", (None,), ["Repeats   the training failed with 1 of 1 (nan-loss)"]),
    ],
)
def test_the_repeats_are_summarized(
    shards: Path,
    tmp_path: Path,
    kind: ChampionKind,
    objectives: tuple[float | None, ...],
    lines: list[str],
) -> None:
    study = study_with_started_trial(shards, tmp_path / "studies" / "repeated")
    decision = REFIT_DECISION if kind == "refit" else ENSEMBLE_DECISION
    assert repeat_lines(study.plan, study.history, study_end(decision, *objectives)) == lines


def test_a_line_says_what_proposed_the_trials(shards: Path, tmp_path: Path) -> None:
    study = new_study(shards, tmp_path / "first", TREE | {"sampler": "forest"})
    train_next(study, 12)
    assert proposal_lines(study.plan, study.history) == []
    plan = replace(study.plan, memory=Memory((MemorySource("earlier", 12),), (), "a" * 64))
    trials = study.history.searched()
    for trial in trials:
        trial.origin = "memory" if trial is trials[0] else "model"
    (line,) = proposal_lines(plan, study.history)
    start = "Proposals 1 of earlier studies, 11 of the model of the learning curves; the best"
    assert line.startswith(start)


def test_the_corrected_estimate_names_earlier_studies_on_the_same_patients(
    shards: Path, tmp_path: Path
) -> None:
    study = study_with_started_trial(shards, tmp_path / "studies" / "first")
    end = study_end(REFIT_DECISION)
    sources = (MemorySource("a", 12, 3), MemorySource("b", 12), MemorySource("c", 12, 1))
    plan = replace(study.plan, memory=Memory(sources, (), "a" * 64))
    corrected = selection_lines(plan, study.history, end)[1]
    clause = "; it does not correct for a, c, which the search learned from, on the same patients"
    assert corrected.endswith(clause)
    assert "does not correct" not in selection_lines(study.plan, study.history, end)[1]
