"""External test sets: leakage, other sizes and other classes are rejected."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from raysearch.data.shards.sharding import write_shards
from raysearch.errors import DataError
from raysearch.inference.model_loading import Model, load_model
from raysearch.search.study.study import Study
from raysearch.testing.external_test_set import ExternalTestSet, score_external_test_set
from raysearch.testing.test_results import ScoredTestSet
from support.external_sets import rename_patients

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def model(champion_study: Study) -> Model:
    """The champion of the study `first`."""
    return load_model("first", str(Path(champion_study.folder.address).parent))


def evaluate(model: Model, shards: Path, task: str = "label") -> ScoredTestSet:
    test_set = ExternalTestSet(str(shards), task)
    return score_external_test_set(model, test_set, lambda _done, _all: None)


def test_the_training_data_of_a_champion_is_what_its_study_sees(
    model: Model, champion_study: Study
) -> None:
    assert model.artifact.training_data.view == champion_study.plan.view


def test_shared_patients_are_rejected(model: Model, many: Path) -> None:
    with pytest.raises(DataError, match=r"51 patients, such as 'p\d+', are in the training data"):
        evaluate(model, many)


def test_shared_pixels_are_rejected(model: Model, tmp_path: Path) -> None:
    duplicates = tmp_path / "duplicates"
    write_shards("60:480:1", duplicates, "synthetic", workers=1)
    rename_patients(duplicates, "other-")
    with pytest.raises(DataError, match="patches have the same pixels as patches of the training"):
        evaluate(model, duplicates)


def test_training_data_that_is_gone_gives_a_note(model: Model, tmp_path: Path) -> None:
    duplicates = tmp_path / "duplicates"
    write_shards("60:480:1", duplicates, "synthetic", workers=1)
    rename_patients(duplicates, "other-")
    training_data = replace(model.artifact.training_data, data=str(tmp_path / "gone"))
    model = replace(model, artifact=replace(model.artifact, training_data=training_data))
    notes = evaluate(model, duplicates).record.notes
    assert any(note.startswith("leakage from the training data was not checked") for note in notes)


def test_another_patch_size_is_rejected(model: Model, tmp_path: Path) -> None:
    large = tmp_path / "large"
    write_shards("4:40:2", large, "synthetic", size=(64, 64), workers=1)
    with pytest.raises(DataError, match="takes 50x50; create the shards again with --size 50x50"):
        evaluate(model, large)


def test_other_classes_and_tasks_are_rejected(model: Model, tmp_path: Path) -> None:
    large = tmp_path / "large"
    write_shards("4:40:2", large, "synthetic", size=(64, 64), workers=1)
    artifact = replace(model.artifact, class_names=("benign", "malignant"), shape=(64, 64, 3))
    model = replace(model, artifact=artifact)
    with pytest.raises(DataError, match="is not a class of first, trial t0000, whose classes are"):
        evaluate(model, large)
    with pytest.raises(DataError, match="task 'subtype'"):
        evaluate(model, large, "subtype")


def test_the_name_of_the_held_out_test_set_is_reserved(model: Model, many: Path) -> None:
    with pytest.raises(DataError, match="--name held_out: reserved for the study's own test set"):
        score_external_test_set(
            model, ExternalTestSet(str(many), name="held_out"), lambda _done, _all: None
        )
