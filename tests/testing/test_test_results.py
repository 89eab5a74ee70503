"""The stored results of test sets: read as they were written, or rejected in one line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from raysearch.data.shards.patches import load_patches
from raysearch.errors import StudyError
from raysearch.metrics.evaluation import ScoredRows
from raysearch.metrics.interval import Interval
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.testing.test_results import (
    RECORD,
    AccessCounts,
    EvaluationRecord,
    ScoredTestSet,
    default_set_name,
    read_evaluation_scores,
    read_evaluations,
    write_evaluation,
)

RECORDS = (
    EvaluationRecord(
        name="external",
        data="shards",
        fingerprint="0123",
        model="first, trial t0000",
        trial="t0000",
        time="2026-01-01T00:00:00+00:00",
        class_names=("negative", "positive"),
        threshold=0.5,
        notes=("a note",),
        smoothed_auroc=Interval(0.8, 0.85, 0.9),
    ),
    EvaluationRecord(
        name="held_out",
        data="shards",
        fingerprint="0123",
        model="first, trial t0000",
        trial="t0000",
        time="2026-01-02T00:00:00+00:00",
        class_names=("negative", "positive"),
        threshold=None,
        accesses=AccessCounts(by_study=1, total=3),
        repeat_seed=11,
    ),
)


@pytest.fixture
def folder(shards: Path, tmp_path: Path) -> StudyFolder:
    """A study's folder with the results of two test sets."""
    folder = StudyFolder(tmp_path)
    patches = load_patches(str(shards))
    probabilities = np.random.default_rng(0).dirichlet((1, 1), len(patches.labels))
    for record in RECORDS:
        scored = ScoredRows(
            patches.labels,
            probabilities,
            patches.patients,
            record.class_names,
            record.threshold,
        )
        write_evaluation(folder, ScoredTestSet(patches, scored, record))
    return folder


def test_records_and_scores_are_read_as_they_were_written(
    folder: StudyFolder, shards: Path
) -> None:
    records = read_evaluations(folder)
    assert records == [RECORDS[1], RECORDS[0]]
    patches = load_patches(str(shards))
    scored = read_evaluation_scores(folder, records[1])
    assert np.array_equal(scored.labels, patches.labels)
    assert np.array_equal(scored.patients, patches.patients)
    assert scored.threshold == 0.5
    assert np.allclose(scored.probabilities.sum(axis=1), 1)


def test_another_format_is_rejected_in_one_line(folder: StudyFolder) -> None:
    path = f"{folder.evaluation('external')}/{RECORD}"
    content = json.loads(folder.read(path))
    folder.write(path, json.dumps({**content, "format": 1}).encode())
    with pytest.raises(StudyError, match=r"format 1 instead of 3\); evaluate that test") as error:
        read_evaluations(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("damage", [b"{", b"[]", b'{"format": 3, "name": "external"}'])
def test_a_damaged_record_is_rejected(folder: StudyFolder, damage: bytes) -> None:
    folder.write(f"{folder.evaluation('external')}/{RECORD}", damage)
    with pytest.raises(StudyError, match=r"cannot be read .*; evaluate that test set again"):
        read_evaluations(folder)


def test_missing_and_damaged_scores_are_rejected(folder: StudyFolder) -> None:
    (name,) = set(folder.names(folder.evaluation("external"))) - {RECORD}
    path = f"{folder.evaluation('external')}/{name}"
    folder.write(path, folder.read(path)[:-100])
    other_classes = replace(RECORDS[1], class_names=("benign", "malignant"))
    for record in (RECORDS[0], other_classes, replace(RECORDS[0], name="gone")):
        with pytest.raises(StudyError, match="missing or damaged; evaluate that test set again"):
            read_evaluation_scores(folder, record)


def test_an_evaluation_that_is_killed_before_its_record_leaves_the_one_before(
    folder: StudyFolder, shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A report that reads meanwhile reads that one, too."""

    class Killed(BaseException):
        pass

    (record,) = (record for record in read_evaluations(folder) if record.name == "external")
    before, write = read_evaluation_scores(folder, record), StudyFolder.write
    patches = load_patches(str(shards))
    again = replace(record, time="2027-01-01")

    def write_until_killed(place: StudyFolder, name: str, content: bytes) -> None:
        if name.endswith(RECORD):
            raise Killed
        write(place, name, content)

    def evaluate(number: int) -> None:
        scored = replace(before, probabilities=np.roll(before.probabilities, number, axis=0))
        write_evaluation(folder, ScoredTestSet(patches, scored, again))

    with monkeypatch.context() as patch:
        patch.setattr(StudyFolder, "write", write_until_killed)
        for number in (1, 2):
            with pytest.raises(Killed):
                evaluate(number)
    assert record in read_evaluations(folder)
    stored = read_evaluation_scores(folder, record)
    assert np.array_equal(stored.probabilities, before.probabilities)
    assert len(folder.names(folder.evaluation("external"))) == 3  # without the first killed one
    evaluate(3)
    assert again in read_evaluations(folder)
    stored = read_evaluation_scores(folder, again)
    assert np.array_equal(stored.probabilities, np.roll(before.probabilities, 3, axis=0))


def test_a_test_set_is_named_after_its_folder() -> None:
    assert default_set_name("s3://bucket/sets/external") == "external"
