"""External test sets: leakage, other sizes and other classes are rejected."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from raysearch.champion.model_artifact import pack_model_artifact
from raysearch.champion.stored_champion import load_champion
from raysearch.champion.training_record import record_training_data
from raysearch.data.pseudonyms import key_in
from raysearch.data.shards.rows import ALL
from raysearch.data.shards.sharding import write_shards
from raysearch.data.sources.listing import SourceOptions
from raysearch.errors import DataError
from raysearch.inference.model_loading import Model, load_model
from raysearch.models.classifier import Ensemble, PatchClassifier
from raysearch.search.study.stored_study import read_plan
from raysearch.search.study.study import Study
from raysearch.search.tracking.model_registry import ARTIFACT_PATH
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


def test_shared_patients_are_rejected(model: Model, many: Path) -> None:
    with pytest.raises(DataError, match=r"51 patients, such as 'p\d+', are in the training data"):
        evaluate(model, many)


def test_shared_pixels_are_rejected(model: Model, tmp_path: Path) -> None:
    duplicates = tmp_path / "duplicates"
    write_shards("60:480:1", duplicates, "synthetic", workers=1)
    rename_patients(duplicates, "other-")
    with pytest.raises(DataError, match="patches have the same pixels as patches of the training"):
        evaluate(model, duplicates)


def test_training_data_that_is_gone_gives_a_note(
    model: Model, champion_study: Study, tmp_path: Path
) -> None:
    duplicates = tmp_path / "duplicates"
    write_shards("60:480:1", duplicates, "synthetic", workers=1)
    rename_patients(duplicates, "other-")
    folder = champion_study.folder
    plan = replace(champion_study.plan, data=str(tmp_path / "gone"))
    folder.write(folder.PLAN, plan.dump())
    notes = evaluate(model, duplicates).record.notes
    assert any(note.startswith("leakage from the training data was not checked") for note in notes)


def registered(study: Study, studies: str) -> Model:
    """Return the champion as a registered model, of which only the file is left."""
    stored = Path(study.folder.address).parents[1] / "registered"
    artifact, classifier = load_champion(study.folder, study.plan, study.history)
    record = record_training_data(study.folder, study.plan)
    (stored / ARTIFACT_PATH).parent.mkdir(parents=True)
    (stored / ARTIFACT_PATH).write_bytes(pack_model_artifact(artifact, classifier, record))
    return load_model(str(stored), studies)


def test_a_registered_model_recognizes_its_patients_with_the_key_of_the_study(
    champion_study: Study, many: Path
) -> None:
    model = registered(champion_study, str(Path(champion_study.folder.address).parent))
    with pytest.raises(DataError, match=r"51 patients, such as 'p\d+', are in the training data"):
        evaluate(model, many)


def test_without_the_key_pixels_are_compared_and_a_note_says_that_names_are_not(
    champion_study: Study, many: Path, tmp_path: Path
) -> None:
    model = registered(champion_study, str(tmp_path / "elsewhere"))
    with pytest.raises(DataError, match=r"\d+ patches have the same pixels as patches of the tr"):
        evaluate(model, many)
    other = tmp_path / "other"
    write_shards("60:480:2", other, "synthetic", workers=1)
    (note,) = [note for note in evaluate(model, other).record.notes if "names" in note]
    assert "were not compared" in note
    assert "--studies" in note
    assert "\n" not in note


def test_another_key_in_the_folder_of_the_study_compares_no_names(
    champion_study: Study, tmp_path: Path
) -> None:
    model = registered(champion_study, str(Path(champion_study.folder.address).parent))
    folder = champion_study.folder
    folder.remove(folder.PSEUDONYM_KEY)
    key_in(folder, folder.PSEUDONYM_KEY)
    other = tmp_path / "other"
    write_shards("60:480:2", other, "synthetic", workers=1)
    assert any("were not compared" in note for note in evaluate(model, other).record.notes)


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


WHITE = np.full((50, 50, 3), 255, np.uint8)


def write_set(folder: Path, first_seed: int, patient: str | None = None) -> Path:
    """Shard 12 random images with the file names of every such set, and one white image."""
    for label in ("negative", "positive"):
        (folder / "images" / label).mkdir(parents=True)
        for number in range(6):
            seed = first_seed + number + (6 if label == "positive" else 0)
            pixels = np.random.default_rng(seed).integers(0, 256, (50, 50, 3), np.uint8)
            Image.fromarray(pixels).save(folder / "images" / label / f"{number}.png")
    Image.fromarray(WHITE).save(folder / "images" / "negative" / "7.png")
    options = SourceOptions(patient=patient)
    write_shards(str(folder / "images"), folder / "shards", "folder", options=options, workers=1)
    return folder / "shards"


def trained_on(model: Model, shards: Path) -> Model:
    """Return `model` with `shards` as its training data."""
    assert model.study is not None
    plan = replace(read_plan(model.study), data=str(shards), view=ALL)
    return replace(model, training_data=record_training_data(model.study, plan))


def test_equal_file_names_and_a_white_tile_are_no_leakage(model: Model, tmp_path: Path) -> None:
    model = trained_on(model, write_set(tmp_path / "one", 0))
    result = evaluate(model, write_set(tmp_path / "two", 100))
    assert len(result.scored.labels) == 13
    assert not any("training data" in note for note in result.record.notes)


def test_a_patch_of_the_training_data_is_named(model: Model, tmp_path: Path) -> None:
    model = trained_on(model, write_set(tmp_path / "one", 0))
    with pytest.raises(
        DataError,
        match=r"1 patches have the same pixels as patches of the training data of first.*, such as"
        r" 'negative/0.png'; name shards of other images",
    ):
        evaluate(model, write_set(tmp_path / "two", 11))


def test_patients_of_equal_names_are_other_patients_if_the_user_declares_it(
    model: Model, tmp_path: Path
) -> None:
    training_shards = write_set(tmp_path / "one", 0, r"\d+")
    model = trained_on(model, training_shards)
    shards = write_set(tmp_path / "two", 100, r"\d+")
    with pytest.raises(DataError, match=r"7 patients, such as '0', .* declare with --other-patie"):
        evaluate(model, shards)
    test_set = ExternalTestSet(str(shards), other_patients=True)
    record = score_external_test_set(model, test_set, lambda _done, _all: None).record
    assert any("--other-patients declares that they are others" in note for note in record.notes)
    test_set = ExternalTestSet(str(training_shards), other_patients=True)
    with pytest.raises(DataError, match="have the same pixels"):
        score_external_test_set(model, test_set, lambda _done, _all: None)


def test_scores_unlike_those_of_the_training_set_are_noted_and_others_are_not(
    model: Model, tmp_path: Path
) -> None:
    write_shards("30:300:7", tmp_path / "same", "synthetic", workers=1)
    rename_patients(tmp_path / "same", "other-")
    notes = evaluate(model, tmp_path / "same").record.notes
    assert not [note for note in notes if "distributed unlike" in note]
    assert isinstance(model.classifier, PatchClassifier)
    sharp = replace(model, classifier=Sharpened([model.classifier]))
    notes = evaluate(sharp, tmp_path / "same").record.notes
    (shift,) = [note for note in notes if "distributed unlike those of the training set" in note]
    assert "30 patients" in shift
    (overconfident,) = [note for note in notes if "the probabilities are overconfident" in note]
    assert "patches with a confidence of at least 0.95" in overconfident


class Sharpened(Ensemble):
    """A classifier whose logits are multiplied, as those of an overconfident network."""

    def forward(self, patches: Tensor) -> Tensor:
        return torch.softmax(60 * torch.log(super().forward(patches)), dim=1)
