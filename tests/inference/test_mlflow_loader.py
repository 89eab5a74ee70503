"""A model without a copy of its gated encoder: it predicts with the encoder, and names it else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pytest
from numpy.typing import NDArray

from raysearch.champion.model_artifact import pack_model_artifact
from raysearch.champion.register import select_and_register_champion
from raysearch.champion.stored_champion import load_champion, load_champion_network
from raysearch.cli import run
from raysearch.config.hyperparameter_spec import Hparams
from raysearch.data.pseudonyms import DisplayedNames
from raysearch.data.shards.patches import load_patches
from raysearch.errors import StudyError
from raysearch.inference.model_loading import Model, load_model, model_from_artifact, predict_proba
from raysearch.models.encoders.encoder import Encoder
from raysearch.models.encoders.encoder_files import EncoderFileError
from raysearch.models.transfer.pretrained_weights import weights_hash
from raysearch.reports.model_card_answers import study_answers
from raysearch.reports.study_report import study_report
from raysearch.search.study.study import Study
from raysearch.search.tracking.model_registry import ARTIFACT_PATH
from raysearch.search.tracking.tracker import Tracker
from raysearch.search.tracking.tracking_store import global_store
from raysearch.selection.decision_rule import SelectionOptions
from raysearch.training.checkpoint import unpack
from raysearch.training.network_weights import unpack_network_weights
from support.champion_studies import study_with_champion
from support.encoder_snapshots import gated_encoder

pytestmark = pytest.mark.filterwarnings("ignore")
FROZEN: Hparams = {
    "architecture": "uni2-h",
    "adaptation": "frozen",
    "classifier": "logistic_regression",
    "l2_penalty": 0.1,
}
NUM_PATCHES = 7
Pixels = NDArray[np.uint8]


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Encoder:
    """The gated encoder `uni2-h`, small, with its snapshot in a folder of RAYSEARCH_WEIGHTS."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAYSEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/runs.db")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return gated_encoder(tmp_path / "weights", monkeypatch)


@pytest.fixture
def study(encoder: Encoder, many: Path, tmp_path: Path) -> Study:
    """A study whose champion classifies the frozen features of the gated encoder."""
    assert encoder.is_gated
    return study_with_champion(many, tmp_path / "studies" / "first", FROZEN)


@pytest.fixture
def pixels(many: Path) -> Pixels:
    """Some patches, uint8 (N, H*W*3)."""
    return np.array(load_patches(str(many)).pixels[:NUM_PATCHES])


def register(study: Study, store: str, options: SelectionOptions) -> None:
    tracker = Tracker(study.plan, store)
    select_and_register_champion(study, tracker, lambda _text: None, options)
    assert tracker.close("FINISHED", 60.0) is None


def downloaded(store: str, folder: Path) -> Path:
    """The files of the registered champion, downloaded to `folder`."""
    with global_store(store):
        address = "models:/first@champion"
        return Path(mlflow.artifacts.download_artifacts(address, dst_path=str(folder)))


def expected_probabilities(study: Study, pixels: Pixels) -> NDArray[np.float64]:
    """Predict with the encoder's weights inside of the stored network, as before saving."""
    artifact, classifier = load_champion(study.folder, study.plan, study.history)
    model = Model(replace(artifact, encoder_file=None), classifier, "")
    return predict_proba(model, pixels)


@pytest.mark.slow
def test_a_model_without_its_gated_encoder_predicts_as_before_saving(
    study: Study, pixels: Pixels, tmp_path: Path
) -> None:
    store = f"sqlite:///{tmp_path}/runs.db"
    register(study, store, SelectionOptions(repeats=0))
    folder = downloaded(store, tmp_path / "folder")
    content = (folder / ARTIFACT_PATH).read_bytes()
    stored = unpack(content)
    names = list(stored["weights"])
    assert names
    assert not [name for name in names if "extractor" in name or "encoder" in name]
    encoder_bytes = (tmp_path / "weights/UNI2-h/model.safetensors").stat().st_size
    assert len(content) < encoder_bytes / 2
    assert not [path for path in folder.rglob("*") if path.suffix in (".pt2", ".safetensors")]
    refitted = unpack_network_weights(study.folder.read(study.folder.CHAMPION))
    assert not [name for name in refitted.model if name.startswith("extractor")]

    expected = expected_probabilities(study, pixels)
    studies = str(tmp_path / "studies")
    for address in ("first", "models:/first@champion", str(folder)):
        assert np.array_equal(predict_proba(load_model(address, studies), pixels), expected)
    patches = pixels.reshape(-1, *study.plan.shape)
    with global_store(store):
        answer = mlflow.pyfunc.load_model("models:/first@champion").predict(patches)
    scores = answer[[f"score_{name}" for name in study.plan.class_names]].to_numpy()
    assert np.array_equal(scores, expected.astype(np.float32))
    assert len(mlflow.pyfunc.load_model(str(folder)).predict(patches[:0])) == 0
    assert run(["predict", "first", study.plan.data, "out"]) == 0
    assert len((tmp_path / "out" / "scores.csv").read_text().splitlines()) == 480 + 1


def test_the_encoder_that_a_model_needs_is_named_if_it_is_missing_or_another(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    snapshot = tmp_path / "weights" / "UNI2-h" / "model.safetensors"
    content_hash = study.plan.weights_hash("uni2-h", "pretrained")
    hidden = snapshot.rename(tmp_path / "hidden")
    commands = (
        ["predict", "first", study.plan.data, "out"],
        ["test", "first"],
        ["report", "first", "--out", "first.html"],
        ["weights", "export", "first", "first.pt"],
    )
    for command in commands:
        assert run(command) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert (
            f"its encoder uni2-h, and needs the file of weights with SHA-256 {content_hash}"
            in error
        )
        assert "ask for access at https://huggingface.co/MahmoodLab/UNI2-h" in error
        assert error.endswith("in a folder UNI2-h inside a folder of RAYSEARCH_WEIGHTS\n")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "first.html").exists()
    snapshot.write_bytes(hidden.read_bytes()[:-4] + b"\0\0\0\1")
    assert run(["predict", "first", study.plan.data, "out"]) == 2
    error = capsys.readouterr().err
    assert f"{snapshot} has SHA-256 {weights_hash('uni2-h', 'pretrained')}" in error
    assert error.count("\n") == 1
    hidden.rename(snapshot)
    assert run(["predict", "first", study.plan.data, "out"]) == 0


def test_the_license_of_a_gated_encoder_forbids_a_copy(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    num_events = len(study.journal.events)
    assert run(["select", "first", "--with-encoder", "--dry-run"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "the terms of uni2-h (https://huggingface.co/MahmoodLab/UNI2-h) forbid a copy" in error
    tracker = Tracker(study.plan, f"sqlite:///{tmp_path}/runs.db")
    options = SelectionOptions(repeats=0, with_encoder=True)
    with pytest.raises(StudyError, match="forbid a copy in the model"):
        select_and_register_champion(study, tracker, lambda _text: None, options)
    tracker.close("FAILED", 60.0)
    assert len(study.journal.events) == num_events


@pytest.mark.slow
def test_an_encoder_of_unknown_license_is_copied_on_request(
    encoder: Encoder, many: Path, pixels: Pixels, tmp_path: Path
) -> None:
    folder = tmp_path / "weights" / "UNI2-h"
    config = folder / "config.json"
    config.write_text(config.read_text().replace("cc-by-nc-nd-4.0", "other"))
    hparams = {**FROZEN, "architecture": str(folder)}
    study = study_with_champion(many, tmp_path / "studies" / "first", hparams)
    store = f"sqlite:///{tmp_path}/runs.db"
    register(study, store, SelectionOptions(repeats=0))
    separate = load_model("models:/first@champion", str(tmp_path / "studies"))
    record = separate.artifact.encoder_file
    assert record is not None
    assert record.name == "UNI2-h"
    # Without its study, it is searched for by the name of its folder.
    assert load_model("models:/first@champion", "").content_hash == separate.content_hash
    register(study, store, SelectionOptions(repeats=0, with_encoder=True))
    assert study.history.with_encoder
    files = downloaded(store, tmp_path / "folder")
    network = load_champion_network(study.folder, study.plan, study.history)[1]
    config.unlink()
    (folder / "model.safetensors").unlink()
    for address in ("models:/first@champion", str(files)):
        model = load_model(address, "")
        assert model.artifact.encoder_file is None
        assert np.array_equal(predict_proba(model, pixels), predict_proba(separate, pixels))
    with global_store(store):
        loaded = mlflow.pyfunc.load_model("models:/first@champion")
        versions = len(mlflow.MlflowClient().search_model_versions("name = 'first'"))
    answer = loaded.predict(pixels.reshape(-1, *study.plan.shape))
    expected = predict_proba(separate, pixels)
    assert np.allclose(answer["score_positive"], expected[:, 1], atol=1e-6)
    assert versions == 2
    names = [name for name, _value in network.named_parameters()]
    assert any(name.startswith("encoder.") for name in names)
    assert encoder.is_gated


def test_the_model_card_has_the_encoder(study: Study) -> None:
    answers = study_answers(study_report(study.folder), DisplayedNames(None))
    content_hash = study.plan.weights_hash("uni2-h", "pretrained")
    assert answers["initialization"].text == (
        "Pretrained weights `pretrained` of uni2-h, license cc-by-nc-nd-4.0, access by request,"
        f" https://huggingface.co/MahmoodLab/UNI2-h, SHA-256 {content_hash}. Random initialization"
        " of the head."
    )
    assert "has no copy of the frozen encoder uni2-h" in answers["specification"].text
    assert content_hash in answers["specification"].text


def test_the_members_of_an_ensemble_share_their_encoder(
    encoder: Encoder, many: Path, pixels: Pixels, tmp_path: Path
) -> None:
    assert encoder.is_gated
    study = study_with_champion(many, tmp_path / "studies" / "first", FROZEN, "ensemble")
    artifact, classifier = load_champion(study.folder, study.plan, study.history)
    content = pack_model_artifact(artifact, classifier)
    model = model_from_artifact(content, "the model")
    assert model.artifact.num_members == 2
    assert np.array_equal(predict_proba(model, pixels), expected_probabilities(study, pixels))
    memory = {value.data_ptr() for value in model.classifier.state_dict().values()}
    names = [name for name in model.classifier.state_dict() if "extractor" in name]
    assert len(memory) < len(names)
    (tmp_path / "weights" / "UNI2-h" / "model.safetensors").unlink()
    with pytest.raises(EncoderFileError):
        model_from_artifact(content, "the model")
