"""The file of a champion: it is read as it was written, or rejected in one line."""

from __future__ import annotations

import pytest
import torch

from raysearch.champion.model_artifact import (
    FORMAT,
    AuxiliaryDataRecord,
    ModelArtifact,
    TrainingDataRecord,
    pack_model_artifact,
    unpack_model_artifact,
)
from raysearch.data.shards.rows import View
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
    training_data=TrainingDataRecord(
        data="shards",
        fingerprint="abcd",
        view=View("label", "patient", ("p1", "p2")),
        auxiliary=(AuxiliaryDataRecord("other", View("label")),),
    ),
    num_members=2,
    repeat_seed=11,
)


def test_a_written_model_is_read_as_it_was() -> None:
    classifier = ARTIFACT.build_untrained()
    artifact, read = unpack_model_artifact(pack_model_artifact(ARTIFACT, classifier))
    assert artifact == ARTIFACT
    patches = torch.randint(0, 256, (3, *ARTIFACT.shape), dtype=torch.uint8)
    with torch.inference_mode():
        assert torch.equal(read(patches), classifier(patches))


def test_every_changed_byte_is_rejected() -> None:
    content = pack_model_artifact(ARTIFACT, ARTIFACT.build_untrained())
    for position in (0, 30, 60, len(content) - 1):
        changed = bytearray(content)
        changed[position] ^= 1
        with pytest.raises(ValueError, match="hash does not match"):
            unpack_model_artifact(bytes(changed))


def test_another_format_is_rejected_in_one_line() -> None:
    for content, version in (({"recipe": {}, "weights": {}}, 1), ({"format": FORMAT + 1}, 3)):
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
