"""The file of a champion: it is read as it was written, or rejected in one line."""

from __future__ import annotations

import resource
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raysearch.champion.model_artifact import (
    FORMAT,
    ModelArtifact,
    pack_model_artifact,
    unpack_model_artifact,
)
from raysearch.champion.training_record import TrainingDataRecord
from raysearch.config.hyperparameter_spec import Value
from raysearch.models.encoders.encoder_files import EncoderFile, EncoderFileError
from raysearch.models.encoders.encoder_table import ENCODERS
from raysearch.models.transfer.feature_heads import NearestCentroidHead, NearestNeighborsHead
from raysearch.search.journal.codec import record_to_json
from raysearch.training.checkpoint import pack, unpack

ARTIFACT = ModelArtifact(
    study="first",
    study_identity="0123",
    trial="t0007",
    hparams={"architecture": "cnn", "width": 4, "convolutions": 1, "tta": "none", "dropout": 0.5},
    shape=(32, 32, 3),
    class_names=("negative", "positive"),
    temperature=1.5,
    threshold=0.25,
    num_members=2,
    repeat_seed=11,
)


def test_a_written_model_is_read_as_it_was() -> None:
    classifier = ARTIFACT.build_untrained()
    record = TrainingDataRecord("k", ("12", "34"), np.arange(3))
    stored = unpack_model_artifact(pack_model_artifact(ARTIFACT, classifier, record))
    assert stored.artifact == ARTIFACT
    read, training_data = stored.classifier, stored.training_data
    assert training_data is not None
    assert training_data.patches.tolist() == [0, 1, 2]
    assert training_data.patients == record.patients
    assert training_data.key_id == "k"
    patches = torch.randint(0, 256, (3, *ARTIFACT.shape), dtype=torch.uint8)
    with torch.inference_mode():
        assert torch.equal(read(patches), classifier(patches))


@pytest.mark.parametrize("classifier", ["mlp", "nearest_centroid", "nearest_neighbors"])
def test_a_model_with_a_classifier_of_frozen_features_is_read_as_it_was(classifier: str) -> None:
    hparams: dict[str, Value] = {
        "architecture": "cnn",
        "width": 4,
        "convolutions": 1,
        "tta": "dihedral",
        "adaptation": "frozen",
        "classifier": classifier,
        "features": "multi",
        "num_neighbors": 3,
        "head_hidden_units": 5,
    }
    artifact = replace(ARTIFACT, hparams=hparams, num_members=1, repeat_seed=None)
    classifier_of_patches = artifact.build_untrained()
    for module in classifier_of_patches.modules():
        if isinstance(module, NearestCentroidHead):
            features = torch.randn(20, module.centroids.shape[1])
            module.fit(features, torch.arange(20) % 2, torch.ones(20))
        if isinstance(module, NearestNeighborsHead):
            features = torch.randn(20, module.rows.shape[1])
            module.fit(features, torch.arange(20) % 2, torch.ones(20))
    content = pack_model_artifact(artifact, classifier_of_patches)
    read = unpack_model_artifact(content).classifier
    patches = torch.randint(0, 256, (3, *artifact.shape), dtype=torch.uint8)
    with torch.inference_mode():
        assert torch.equal(read(patches), classifier_of_patches(patches))


@pytest.mark.parametrize("architecture", ["lunit-s16", "hf-hub:someone/net", "./encoder"])
def test_a_model_with_an_encoder_is_built_without_the_files_of_the_encoder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, architecture: str
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = {"depth": 1, "embed_dim": 16, "num_heads": 2}
    encoder = replace(ENCODERS["lunit-s16"], name="net", arguments=arguments, input_size=32)
    hparams: dict[str, Value] = {"architecture": architecture, "token_pooling": "mean"}
    artifact = replace(ARTIFACT, hparams=hparams, encoder=encoder, num_members=1)
    classifier = artifact.build_untrained()
    content = pack_model_artifact(artifact, classifier)
    stored = unpack_model_artifact(content)
    assert stored.artifact == artifact
    patches = torch.randint(0, 256, (3, *ARTIFACT.shape), dtype=torch.uint8)
    with torch.inference_mode():
        assert torch.equal(stored.classifier(patches), classifier(patches))
    # A forged file must not make the program read or download files.
    forged = unpack(content)
    forged["artifact"]["encoder"] = None
    with pytest.raises(ValueError, match="encoder: missing"):
        unpack_model_artifact(pack(forged))
    forged["artifact"]["encoder"] = unpack(content)["artifact"]["encoder"]
    forged["artifact"]["encoder"]["arguments"]["checkpoint_path"] = "/etc/passwd"
    with pytest.raises(ValueError, match="have checkpoint_path"):
        unpack_model_artifact(pack(forged))
    for field, value in (("mean", []), ("std", [0.0, 0.0, 0.0]), ("input_size", 10**6)):
        forged = unpack(content)
        forged["artifact"]["encoder"][field] = value
        with pytest.raises(ValueError, match=r"config.json cannot be used"):
            unpack_model_artifact(pack(forged))
    forged = unpack(content)
    forged["artifact"]["hparams"]["architecture"] = "cnn"
    with pytest.raises(ValueError, match="encoder: missing, or not one of the architecture"):
        unpack_model_artifact(pack(forged))


SHA256 = "ab" * 32
FROZEN: dict[str, Value] = {
    "architecture": "lunit-s16",
    "adaptation": "frozen",
    "classifier": "linear",
    "tta": "none",
}


def separate_artifact(**changes: Any) -> ModelArtifact:
    """A model without a copy of its small encoder."""
    arguments = {"depth": 1, "embed_dim": 16, "num_heads": 2}
    encoder = replace(ENCODERS["lunit-s16"], name="lunit-s16", arguments=arguments, input_size=32)
    file = EncoderFile("lunit-s16", SHA256)
    artifact = replace(ARTIFACT, hparams=FROZEN, encoder=encoder, encoder_file=file)
    return replace(artifact, **changes)


def no_encoder(_artifact: ModelArtifact, record: EncoderFile) -> Path:
    raise EncoderFileError(f"no {record.name}")


def test_the_weights_of_a_separate_encoder_are_not_in_the_file_and_are_asked_for() -> None:
    artifact = separate_artifact()
    content = pack_model_artifact(artifact, artifact.build_untrained())
    stored = unpack(content)
    assert {name.rpartition("net.head.")[1] for name in stored["weights"]} == {"net.head."}
    with pytest.raises(EncoderFileError, match="no lunit-s16"):
        unpack_model_artifact(content, no_encoder)
    with pytest.raises(ValueError, match="encoder_file: not allowed here"):
        unpack_model_artifact(content)


def test_a_file_of_format_4_has_the_weights_of_its_encoder() -> None:
    artifact = separate_artifact(encoder_file=None)
    stored = unpack(pack_model_artifact(artifact, artifact.build_untrained()))
    assert "encoder_file" not in stored["artifact"]
    read = unpack_model_artifact(pack(stored | {"format": 4}))
    assert read.artifact == artifact


@pytest.mark.parametrize(
    "change",
    [
        {"encoder_file": EncoderFile("../etc/passwd", SHA256)},
        {"encoder_file": EncoderFile("uni", SHA256)},
        {"encoder_file": EncoderFile("lunit-s16", "no hash")},
        {"hparams": {**FROZEN, "adaptation": "full", "classifier": "linear"}},
        {"hparams": {**FROZEN, "weights": "/etc/x.pt"}, "encoder_file": EncoderFile("..", SHA256)},
        {"hparams": {**FROZEN, "weights": "x"}, "encoder_file": EncoderFile("a/b.pt", SHA256)},
        {"hparams": {**FROZEN, "weights": "x"}, "encoder_file": EncoderFile("a\nb.pt", SHA256)},
    ],
)
def test_a_forged_name_of_an_encoder_is_rejected_before_a_file_is_searched_for(
    change: dict[str, Any],
) -> None:
    artifact = separate_artifact()
    content = pack_model_artifact(artifact, artifact.build_untrained())
    forged = unpack(content) | {"artifact": record_to_json(separate_artifact(**change))}
    with pytest.raises(ValueError, match="damaged"):
        unpack_model_artifact(pack(forged), no_encoder)
    both = unpack(content)
    both["weights"]["members.0.net.extractor.net.head.weight"] = torch.zeros(1)
    with pytest.raises(ValueError, match="has weights of the encoder, too"):
        unpack_model_artifact(pack(both), no_encoder)


def test_every_changed_byte_is_rejected() -> None:
    content = pack_model_artifact(ARTIFACT, ARTIFACT.build_untrained())
    for position in (0, 30, 60, len(content) - 1):
        changed = bytearray(content)
        changed[position] ^= 1
        with pytest.raises(ValueError, match="hash does not match"):
            unpack_model_artifact(bytes(changed))


def test_another_format_is_rejected_in_one_line() -> None:
    for content, version in (
        ({"recipe": {}, "weights": {}}, 1),
        ({"format": 2}, 2),
        ({"format": FORMAT + 1}, 8),
    ):
        with pytest.raises(ValueError, match=f"^has format {version}, and this version") as error:
            unpack_model_artifact(pack(content))
        assert "\n" not in str(error.value)


def test_a_field_that_is_missing_or_unknown_is_rejected() -> None:
    stored = unpack(pack_model_artifact(ARTIFACT, ARTIFACT.build_untrained()))
    del stored["artifact"]["temperature"]
    with pytest.raises(ValueError, match=r"^damaged \(ModelArtifact: temperature"):
        unpack_model_artifact(pack(stored))
    stored["artifact"] |= {"temperature": 1.0, "color": "red"}
    with pytest.raises(ValueError, match="unknown field 'color'"):
        unpack_model_artifact(pack(stored))


def test_weights_of_another_network_are_rejected() -> None:
    stored = unpack(pack_model_artifact(ARTIFACT, ARTIFACT.build_untrained()))
    stored["artifact"]["hparams"]["width"] = 8
    with pytest.raises(ValueError, match="damaged"):
        unpack_model_artifact(pack(stored))


@pytest.mark.parametrize(
    "change",
    [
        {"patches": torch.zeros(3)},
        {"patches": [1, 2]},
        {"patients": "p1"},
        {"patients": [1]},
        {"more": 1},
    ],
)
def test_a_damaged_record_of_the_training_data_is_rejected(change: dict[str, object]) -> None:
    record = TrainingDataRecord("k", ("12", "34"), np.arange(3))
    stored = unpack(pack_model_artifact(ARTIFACT, ARTIFACT.build_untrained(), record))
    stored["training_data"] |= change
    with pytest.raises(ValueError, match=r"^damaged \(training data"):
        unpack_model_artifact(pack(stored))


HOSTILE_FIELDS = {
    "shape": [32, 32, 4],
    "class_names": ["a", "a"],
    "temperature": 0.0,
    "threshold": float("nan"),
    "num_members": 10**9,
}


@pytest.mark.parametrize("field", HOSTILE_FIELDS)
def test_a_field_out_of_its_range_is_rejected(field: str) -> None:
    stored = unpack(pack_model_artifact(ARTIFACT, ARTIFACT.build_untrained()))
    stored["artifact"][field] = HOSTILE_FIELDS[field]
    with pytest.raises(ValueError, match=rf"^damaged \({field}: out of range\)"):
        unpack_model_artifact(pack(stored))


def test_a_network_far_larger_than_its_weights_is_not_built() -> None:
    stored = unpack(pack_model_artifact(ARTIFACT, ARTIFACT.build_untrained()))
    # Its weights would take 130 GB.
    stored["artifact"]["hparams"] |= {
        "width": 1024,
        "stages": 6,
        "convolutions": 3,
        "kernel_size": 7,
    }
    stored["artifact"]["shape"] = [128, 128, 3]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match="the weights are those of another network"):
        unpack_model_artifact(pack(stored))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20  # 1 GB


def test_a_format_that_is_no_number_is_named_in_one_short_line() -> None:
    with pytest.raises(ValueError, match="has format tensor") as rejected:
        unpack_model_artifact(pack({"format": torch.zeros(300, 300)}))
    assert len(str(rejected.value)) < 120
    assert "\n" not in str(rejected.value)
