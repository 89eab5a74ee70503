"""Which earlier studies a new one learns from, and what it stores of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raysearch.config.space_file import parse_space
from raysearch.data.shards.rows import ALL, View
from raysearch.errors import StudyError
from raysearch.search.journal.events import TrialStarted
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study import earlier_studies
from raysearch.search.study.earlier_studies import (
    MIN_TRIALS,
    NewStudy,
    find_memory,
    read_memory,
)
from raysearch.search.study.earlier_studies import new_study as new_study_of
from raysearch.search.study.launcher_lock import launcher_lock
from raysearch.search.study.plan import FORMAT, Auxiliary, Memory, MemorySource
from raysearch.search.study.plan_creation import make_plan
from raysearch.search.study.stored_study import read_plan, read_splits
from raysearch.search.study.study import Study, create_study
from raysearch.search.transfer.shipped_studies import (
    ShippedStudy,
    group_hash,
    shipped_studies,
)
from raysearch.search.transfer.source_models import has_pattern
from support.result_studies import TREE, fold_report, new_study, next_searched, train_next

FOREST = TREE | {"stopping": {"rule": "forest"}, "memory": "studies", "trials": 20}


@pytest.fixture
def earlier(shards: Path, tmp_path: Path) -> Study:
    """A study with 12 trials in the folder of the studies."""
    study = new_study(shards, tmp_path / "first", TREE)
    train_next(study, 12)
    return study


def memory_of(tmp_path: Path, view: View = ALL, **settings: Any) -> Memory:
    """The memory of a new study; `view` is what it sees of its shards."""
    return find_memory(NewStudy(parse_space(FOREST | settings, "x"), view), str(tmp_path))[0]


def reasons(memory: Memory) -> dict[str, str]:
    """Why studies are omitted, by their names."""
    return {each.name: each.reason for each in memory.omitted}


@pytest.mark.usefixtures("earlier")
def test_a_study_stores_the_trials_of_earlier_ones(shards: Path, tmp_path: Path) -> None:
    plan, splits = make_plan(parse_space(FOREST, "x"), "second", str(shards))
    memory, content = find_memory(new_study_of(plan, splits), str(tmp_path))
    assert memory.sources == (MemorySource("first", 12, num_shared=sum(plan.splits[0].patients)),)
    folder = StudyFolder(tmp_path / "second")
    study = create_study(folder, replace(plan, memory=memory), splits, memory=content)
    study.begin()
    train_next(study, 20)
    origins = {trial.origin for trial in study.history.searched()}
    assert origins == {"memory", "model", "random"}
    # A resume needs the study's own folder only.
    for path in sorted((tmp_path / "first").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    resumed = Study(folder, read_plan(folder))
    assert resumed.policy.next() == study.policy.next()
    names = read_memory(folder, resumed.plan)
    assert names is not None
    assert names.names == ("first",)


def test_a_missing_or_changed_memory_is_named(earlier: Study, shards: Path, tmp_path: Path) -> None:
    plan, splits = make_plan(parse_space(FOREST, "x"), "second", str(shards))
    memory, content = find_memory(new_study_of(plan, splits), str(tmp_path))
    folder = StudyFolder(tmp_path / "second")
    create_study(folder, replace(plan, memory=memory), splits, memory=content)
    folder.write(folder.MEMORY, content.replace(b"adamw", b"adamz"))
    for _attempt in range(2):
        with pytest.raises(
            StudyError, match=r"memory\.json: missing, or not the trials of the plan"
        ):
            Study(folder, read_plan(folder))
        folder.remove(folder.MEMORY)
    assert read_memory(earlier.folder, earlier.plan) is None


@pytest.mark.usefixtures("earlier")
def test_no_study_is_read_without_a_memory(tmp_path: Path) -> None:
    assert memory_of(tmp_path, memory="none") == Memory()
    empty = tmp_path / "empty"
    empty.mkdir()
    assert memory_of(tmp_path, memory=str(empty)) == Memory()
    with pytest.raises(StudyError, match=r"memory .*nowhere: no such folder; give the folder of"):
        memory_of(tmp_path, memory=str(tmp_path / "nowhere"))


def test_unusable_studies_are_omitted_by_name(earlier: Study, shards: Path, tmp_path: Path) -> None:
    train_next(new_study(shards, tmp_path / "short", TREE), 3)
    train_next(new_study(shards, tmp_path / "f1", TREE | {"objective": {"metric": "f1"}}), 1)
    rate_only = TREE | {"space": {"folds": 2, "learning_rate": {"loguniform": [1e-4, 1e-1]}}}
    new_study(
        shards, tmp_path / "other", rate_only | {"space": {"folds": 2, "stages": {"int": [1, 2]}}}
    )
    damaged = new_study(shards, tmp_path / "damaged", TREE)
    train_next(damaged, 12)
    journal = sorted((tmp_path / "damaged" / "journal").glob("*.jsonl"))[0]
    journal.write_bytes(journal.read_bytes().replace(b"adamw", b"adamz", 1))
    heads = {**HEADS["space"], "folds": 2}
    new_study(shards, tmp_path / "heads", TREE | {"epochs": 1, "space": heads})
    (tmp_path / "future").mkdir()
    current = f'"format": {FORMAT}'.encode()
    plan = earlier.folder.read(earlier.folder.PLAN).replace(current, b'"format": 99')
    (tmp_path / "future" / "plan.json").write_bytes(plan)
    memory = memory_of(tmp_path)
    assert [source.name for source in memory.sources] == ["first"]
    by_name = reasons(memory)
    assert by_name.keys() == {"short", "f1", "other", "damaged", "heads", "future"}
    assert by_name["heads"] == "another adaptation: frozen"
    assert by_name["short"] == f"3 trials with an objective, of which {MIN_TRIALS} are needed"
    assert by_name["f1"] == "another objective: f1, max"
    assert by_name["other"] == "no searched hyperparameter in common"
    assert "damaged" in by_name["damaged"]
    assert "plan format 99" in by_name["future"]
    assert all("\n" not in reason for reason in by_name.values())


def test_a_running_study_is_omitted(earlier: Study, tmp_path: Path) -> None:
    with launcher_lock(earlier.folder):
        assert reasons(memory_of(tmp_path)) == {"first": "it is running"}
    assert reasons(memory_of(tmp_path)) == {}


def test_a_study_that_trained_on_held_out_patients_is_omitted(
    earlier: Study, tmp_path: Path
) -> None:
    folds = read_splits(earlier.folder, earlier.plan)[2]
    patients = sorted(folds[0].train)
    view = View(held_out=(*patients[:3], "another"))
    memory = memory_of(tmp_path, view)
    assert memory.sources == ()
    assert reasons(memory) == {"first": "it trained on 3 of the held-out patients"}
    assert memory_of(tmp_path, View(held_out=("another",))).sources


def test_a_study_that_may_have_trained_on_held_out_patients_is_omitted(
    earlier: Study, tmp_path: Path
) -> None:
    """By another grouping, by auxiliary shards, or by what it learned from itself."""
    others = View(held_out=("another",))
    by_slide = replace(others, by="slide")
    assert "its groups are by patient" in reasons(memory_of(tmp_path, by_slide))["first"]
    folder, plan = earlier.folder, earlier.plan
    auxiliary = Auxiliary("elsewhere", "f" * 64, 10)
    folder.write(folder.PLAN, replace(plan, auxiliary=(auxiliary,)).dump())
    assert "its auxiliary shards may have" in reasons(memory_of(tmp_path, others))["first"]
    assert memory_of(tmp_path).sources  # nothing is held out
    memory = Memory((MemorySource("zeroth", 12),), (), "a" * 64)
    folder.write(folder.PLAN, replace(plan, memory=memory).dump())
    assert "it learned from studies that" in reasons(memory_of(tmp_path, others))["first"]
    # It has held out the same patients, and so have its own sources.
    held_out = View(held_out=("another", "one more"))
    folder.write(folder.PLAN, replace(plan, memory=memory, view=held_out).dump())
    assert memory_of(tmp_path, others).sources


@pytest.mark.parametrize("number", [10**350, 10**40, 1e300])
def test_a_study_with_absurd_numbers_is_omitted(
    shards: Path, tmp_path: Path, number: float
) -> None:
    study = new_study(shards, tmp_path / "forged", TREE)
    for trial in range(12):
        hparams = {"learning_rate": 0.01, "width": number, "folds": 2}
        study._record(TrialStarted(f"t{trial:04d}", "trial", hparams, 0, 2))
        study._record(fold_report(f"t{trial:04d}", 1, trial / 100))
    assert reasons(memory_of(tmp_path)).keys() == {"forged"}


def test_a_study_without_a_pattern_is_omitted(shards: Path, tmp_path: Path) -> None:
    study = new_study(shards, tmp_path / "noise", TREE)
    generator = np.random.default_rng(0)
    for _trial in range(12):
        trial = next_searched(study)
        for epoch in range(1, 9):
            if not study.report(fold_report(trial.id, epoch, float(generator.random()))):
                break
    expected = "its results do not depend on its hyperparameters"
    assert reasons(memory_of(tmp_path)) == {"noise": expected}


HEADS: dict[str, Any] = {
    "memory": "studies",
    "space": {
        "architecture": "mobilenet_v2",
        "weights": "imagenet",
        "adaptation": "frozen",
        "classifier": {"choice": {"logistic_regression": {"l2_penalty": {"uniform": [1, 9]}}}},
        "features": {"choice": ["last", "multi"]},
    },
}


@pytest.fixture
def shipped(monkeypatch: pytest.MonkeyPatch) -> ShippedStudy:
    """The study of heads on IDC that the product comes with; its first patient is `10253`."""
    study = next(each for each in shipped_studies() if each.source.name == "frozen-idc")
    planted = replace(study, groups=(group_hash("10253"), *study.groups[1:]))
    monkeypatch.setattr(earlier_studies, "shipped_studies", lambda: (planted,))
    return planted


@pytest.mark.usefixtures("shipped")
def test_a_first_study_learns_from_the_shipped_ones(tmp_path: Path) -> None:
    new = NewStudy(parse_space(HEADS, "x"), ALL, frozenset({"10253", "another"}))
    memory, content = find_memory(new, str(tmp_path / "nowhere"))
    assert memory.sources == (MemorySource("shipped/frozen-idc", 60, num_shared=1),)
    assert content
    for settings in ({"memory": "none"}, {"sampler": "tpe"}, {"objective": {"metric": "f1"}}):
        other = replace(new, space=parse_space(HEADS | settings, "x"))
        assert find_memory(other, str(tmp_path)) == (Memory(), b"")
    # The learning rates of heads are not those of whole networks.
    rates = {"learning_rate": {"loguniform": [1e-4, 1e-1]}, "weight_decay": {"uniform": [0, 1]}}
    for hparams in (FOREST["space"], {"architecture": "cnn", **rates}):
        from_scratch = replace(new, space=parse_space(FOREST | {"space": hparams}, "x"))
        assert find_memory(from_scratch, str(tmp_path)) == (Memory(), b"")


@pytest.mark.usefixtures("shipped")
@pytest.mark.parametrize(
    ("by", "has_pseudonyms", "reason"),
    [
        ("patient", False, "it trained on 1 of the held-out patients"),
        ("slide", False, "its patients cannot be compared with a held-out slide"),
        ("patient", True, "its patients cannot be compared with the held-out pseudonyms"),
    ],
)
def test_a_shipped_study_of_held_out_patients_is_omitted(
    tmp_path: Path, by: str, has_pseudonyms: bool, reason: str
) -> None:
    view = View(by=by, held_out=("10253", "another"))
    new = NewStudy(parse_space(HEADS, "x"), view, frozenset(), has_pseudonyms)
    memory = find_memory(new, str(tmp_path))[0]
    assert reasons(memory) == {"shipped/frozen-idc": reason}
    assert not memory.sources


def test_a_study_that_learned_from_a_shipped_one_is_a_source_for_other_patients(
    earlier: Study, shipped: ShippedStudy, tmp_path: Path
) -> None:
    memory = Memory((MemorySource(shipped.name, 60),), (), "a" * 64)
    earlier.folder.write(earlier.folder.PLAN, replace(earlier.plan, memory=memory).dump())
    assert memory_of(tmp_path, View(held_out=("another",))).sources
    omitted = reasons(memory_of(tmp_path, View(held_out=("10253",))))
    assert "it learned from studies that" in omitted["first"]
    # The patients of the shipped study cannot be compared with pseudonyms.
    space, view = parse_space(FOREST, "x"), View(held_out=("another",))
    new = NewStudy(space, view, has_pseudonyms=True)
    omitted = reasons(find_memory(new, str(tmp_path))[0])
    assert "it learned from studies that" in omitted["first"]


def test_a_shipped_study_of_unknown_patients_is_omitted_if_any_are_held_out(tmp_path: Path) -> None:
    space = parse_space(HEADS, "x")
    assert "shipped/frozen-pcam" in names(find_memory(NewStudy(space, ALL), str(tmp_path))[0])
    new = NewStudy(space, View(held_out=("another",)))
    memory = find_memory(new, str(tmp_path))[0]
    assert names(memory) == ["shipped/frozen-idc", "shipped/frozen-breakhis"]
    assert "its patients are unknown" in reasons(memory)["shipped/frozen-pcam"]


def names(memory: Memory) -> list[str]:
    """The names of the sources."""
    return [source.name for source in memory.sources]


def test_the_shipped_studies_have_the_patients_of_public_samples() -> None:
    patients = {study.source.name: len(study.groups) for study in shipped_studies()}
    assert patients["frozen-idc"] == 203
    assert patients["frozen-breakhis"] == 31
    assert all(has_pattern(study.source) for study in shipped_studies())
