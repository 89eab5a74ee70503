"""The held-out test set: its rows, and the log of accesses to it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from raysearch.data.audit.train_test_overlap import PixelMatch
from raysearch.data.files import Folder
from raysearch.data.shards.rows import View, load_rows
from raysearch.data.splits.access_log import TestSetAccess, read_test_set_accesses
from raysearch.errors import DataError, StudyError
from raysearch.inference.model_loading import load_model
from raysearch.search.study.study import Study
from raysearch.selection.decision_rule import SelectionOptions
from raysearch.testing import held_out_test
from raysearch.testing.held_out_test import (
    held_out_test_set,
    reject_other_champion,
    score_held_out_set,
)
from raysearch.testing.test_results import (
    HELD_OUT,
    AccessCounts,
    ScoredTestSet,
    read_evaluation_scores,
    read_evaluations,
)
from support.champion_studies import (
    REFIT_DECISION,
    SLIDE_HPARAMS,
    select_champion,
    study_with_champion,
)

pytestmark = pytest.mark.filterwarnings("ignore")
ACCESS = TestSetAccess.now("first", "identity", "t0000", REFIT_DECISION)


def evaluate(study: Study) -> ScoredTestSet:
    """Evaluate the champion of `study` on its held-out test set."""
    folder = study.folder
    model = load_model(folder.name, str(Path(folder.address).parent))
    return score_held_out_set(folder, study.plan, study.history, model, lambda _done, _all: None)


def test_only_held_out_patients_are_evaluated_and_every_access_is_counted(
    champion_study: Study, many: Path
) -> None:
    held_out = set(champion_study.plan.view.held_out)
    assert len(held_out) == 9
    first = evaluate(champion_study)
    rows = load_rows(str(many))
    assert set(first.scored.patients) == held_out
    assert len(first.scored.labels) == int(np.isin(rows.patients, sorted(held_out)).sum())
    assert first.record.accesses == AccessCounts(by_study=1, total=1)
    assert read_evaluations(champion_study.folder) == [first.record]
    assert first.record.name == HELD_OUT
    stored = read_evaluation_scores(champion_study.folder, first.record)
    assert np.array_equal(stored.probabilities, first.scored.probabilities)
    second = evaluate(champion_study)
    assert second.record.accesses == AccessCounts(by_study=2, total=2)
    assert np.array_equal(second.scored.probabilities, first.scored.probabilities)
    accesses = read_test_set_accesses(Folder(many), "label")
    assert [access.study for access in accesses] == ["first", "first"]


def test_held_out_and_development_rows_are_all_rows_and_share_no_patient(
    champion_study: Study, many: Path
) -> None:
    test_set = held_out_test_set(champion_study.plan)
    assert test_set.development_view == champion_study.plan.view
    held_out = load_rows(str(many), test_set.view)
    development = load_rows(str(many), test_set.development_view)
    assert not set(held_out.patients) & set(development.patients)
    num_rows = len(held_out.labels) + len(development.labels)
    assert num_rows == len(load_rows(str(many), View()).labels)


def test_another_champion_of_the_study_is_rejected_after_the_first_access(
    champion_study: Study, many: Path
) -> None:
    evaluate(champion_study)
    select_champion(champion_study, SelectionOptions(criterion="f1"))
    with pytest.raises(StudyError, match=r"was evaluated by 'first' on 20.*another criterion"):
        evaluate(champion_study)
    assert len(read_test_set_accesses(Folder(many), "label")) == 1


def test_another_trial_is_rejected_and_another_study_is_not(champion_study: Study) -> None:
    evaluate(champion_study)
    test_set = held_out_test_set(champion_study.plan)
    other_champion = replace(test_set.accesses[0], champion="t0009")
    with pytest.raises(StudyError, match="t0009 is another champion"):
        reject_other_champion(test_set, other_champion)
    reject_other_champion(test_set, replace(other_champion, identity="another study"))


def test_further_repeats_do_not_make_another_champion(champion_study: Study) -> None:
    test_set = replace(held_out_test_set(champion_study.plan), accesses=(ACCESS,))
    decision = replace(REFIT_DECISION, repeats=3)
    access = TestSetAccess.now("first", "identity", "t0000", decision)
    assert access.decision != ACCESS.decision
    assert ACCESS.same_champion(access)
    reject_other_champion(test_set, access)


def test_a_study_without_a_held_out_test_set_is_rejected(shards: Path, tmp_path: Path) -> None:
    study = study_with_champion(shards, tmp_path / "studies" / "small")
    with pytest.raises(StudyError, match="study 'small' has no held-out test set"):
        held_out_test_set(study.plan)


def test_a_damaged_access_log_does_not_count_as_an_empty_one(
    champion_study: Study, many: Path
) -> None:
    Folder(many).write("splits/test_access/label/2026.json", b"{")
    with pytest.raises(DataError, match="damaged; restore it from a copy"):
        evaluate(champion_study)


def test_equal_slides_of_the_test_set_and_of_the_development_data_are_named(
    slide_study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = Path(slide_study.plan.data)
    study = study_with_champion(shards, tmp_path / "studies" / "leak", SLIDE_HPARAMS)
    match = PixelMatch("a.h5", "b.h5")
    monkeypatch.setattr(held_out_test, "pixel_matches", lambda _first, _second: [match])
    result = evaluate(study)
    assert result.scored.unit == study.plan.unit == "slides"
    assert result.record.notes == (
        "leakage: 1 slides of the held-out test set have the same features as slides of the"
        " development data ('a.h5' is 'b.h5')",
    )
