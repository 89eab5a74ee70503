"""A model is exported as one ONNX file with its preprocessing, its temperature and its softmax."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from google.protobuf.message import EncodeError

from raysearch.cli import run
from raysearch.errors import StudyError
from raysearch.inference import onnx_export
from raysearch.inference.model_loading import Model, load_model
from raysearch.inference.onnx_export import check_onnx_export, export_onnx
from raysearch.models.encoders.encoder_files import EncoderFile
from raysearch.models.preprocessing.lab import to_lab
from support.source_images import synthetic_patches
from support.untrained_models import SIDE, untrained_model

pytestmark = pytest.mark.filterwarnings("ignore")


def check_probabilities(model: Model, file: Path, patches: np.ndarray[Any, Any]) -> None:
    """Export a model, and compare the probabilities of the file with those of the model."""
    assert export_onnx(model, file).max_difference <= 1e-5
    with torch.inference_mode():
        expected = model.classifier(torch.from_numpy(patches)).numpy()
    assert np.ptp(expected, axis=0).min() > 1e-4  # the patches have different probabilities
    assert np.allclose(probabilities_of(file, patches), expected, atol=1e-5)


def probabilities_of(file: Path, patches: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (probabilities,) = session.run(None, {"patches": patches})
    return np.asarray(probabilities)


def test_a_champion_gives_its_probabilities_from_the_file_alone(
    studies: str, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "first.onnx"
    assert run(["export", "first", str(file), "--json"]) == 0
    exported = json.loads(capsys.readouterr().out)
    assert [(entry["patches"], entry["num_patches"]) for entry in exported["comparisons"]] == [
        ("synthetic patches", 8),
        (f"training patches of {shards}", 64),
    ]
    assert exported["max_difference"] <= 1e-5
    assert (exported["format"], exported["mpp"], exported["notes"]) == ("onnx", None, [])
    assert exported["num_bytes"] == file.stat().st_size
    model = load_model("first", studies)
    patches = np.random.default_rng(1).integers(0, 256, (5, *model.artifact.shape), np.uint8)
    with torch.inference_mode():
        expected = model.classifier(torch.from_numpy(patches)).numpy()
    assert np.allclose(probabilities_of(file, patches), expected, atol=1e-5)
    assert np.allclose(probabilities_of(file, patches[:1]), expected[:1], atol=1e-5)
    entries = {entry.key: entry.value for entry in onnx.load(file).metadata_props}
    assert json.loads(entries["raysearch.class_names"]) == ["negative", "positive"]
    assert json.loads(entries["raysearch.threshold"]) == model.artifact.threshold
    assert entries["raysearch.study"] == "first"


def test_the_file_has_no_path_of_this_machine(tmp_path: Path) -> None:
    export_onnx(untrained_model(), tmp_path / "model.onnx")
    content = (tmp_path / "model.onnx").read_bytes()
    assert b".py" not in content
    assert str(Path(torch.__file__).parent).encode() not in content


def test_sharpened_patches_and_test_time_augmentation_are_a_part_of_the_file(
    tmp_path: Path,
) -> None:
    network: dict[str, Any] = {"architecture": "benchmark", "tta": "dihedral"}
    exported = export_onnx(
        untrained_model(**network, preprocess="sharpen"), tmp_path / "model.onnx"
    )
    assert exported.max_difference <= 1e-5
    plain = untrained_model(**network)
    patches = synthetic_patches(3, SIDE)
    with torch.inference_mode():
        without = plain.classifier(torch.from_numpy(patches)).numpy()
    assert np.abs(probabilities_of(tmp_path / "model.onnx", patches) - without).max() > 1e-3


@pytest.mark.parametrize(
    ("model", "file", "message"),
    [
        (untrained_model(), "model.pt", "model.pt: not the name of an ONNX file"),
        (
            untrained_model((8, 16, 1), architecture="abmil"),
            "model.onnx",
            "a model of slides, which is not exported",
        ),
        (
            untrained_model(architecture="benchmark", preprocess="macenko"),
            "model.onnx",
            "preprocess macenko.* has a part that ONNX",
        ),
    ],
    ids=["suffix", "slides", "solver"],
)
def test_what_cannot_be_exported_is_rejected_and_nothing_is_written(
    model: Model, file: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(StudyError, match=message) as error:
        export_onnx(model, tmp_path / file)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_model_without_a_copy_of_its_encoder_gets_none_by_its_export(tmp_path: Path) -> None:
    model = untrained_model()
    record = EncoderFile("uni", "0" * 64)
    separate = replace(model, artifact=replace(model.artifact, encoder_file=record))
    with pytest.raises(StudyError, match="has no copy of its encoder"):
        export_onnx(separate, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_file_with_other_probabilities_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = onnx_export._run
    monkeypatch.setattr(onnx_export, "_run", lambda *arguments: run(*arguments) + 1e-4)
    with pytest.raises(StudyError, match="the probabilities of the exported model differ by"):
        export_onnx(untrained_model(), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_three_classes_and_another_input_size_are_a_part_of_the_file(tmp_path: Path) -> None:
    hparams: dict[str, Any] = {
        "architecture": "cnn",
        "width": 4,
        "convolutions": 1,
        "input_size": 16,
    }
    model = untrained_model(class_names=("a", "b", "c"), **hparams)
    assert model.artifact.threshold is None
    check_probabilities(model, tmp_path / "model.onnx", synthetic_patches(3, SIDE))
    assert probabilities_of(tmp_path / "model.onnx", synthetic_patches(3, SIDE)).shape == (3, 3)
    entries = {
        entry.key: entry.value for entry in onnx.load(tmp_path / "model.onnx").metadata_props
    }
    assert json.loads(entries["raysearch.class_names"]) == ["a", "b", "c"]
    assert json.loads(entries["raysearch.threshold"]) is None


def test_all_members_of_an_ensemble_are_in_the_file(tmp_path: Path) -> None:
    model = untrained_model(members=2)
    assert len(list(model.classifier.parameters())) == 2 * len(
        list(untrained_model().classifier.parameters())
    )
    check_probabilities(model, tmp_path / "model.onnx", synthetic_patches(3, SIDE))


@pytest.mark.parametrize("preprocess", ["gaussian", "median", "clahe"])
def test_other_filters_are_a_part_of_the_file(preprocess: str, tmp_path: Path) -> None:
    model = untrained_model(architecture="benchmark", preprocess=preprocess)
    check_probabilities(model, tmp_path / "model.onnx", synthetic_patches(3, SIDE))


class LabColors(torch.nn.Module):
    """The lightness and the colors of pixels, on which stain normalization and CLAHE compute."""

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        return to_lab(patches)


def test_the_file_computes_colors_with_double_precision(tmp_path: Path) -> None:
    """Of less precise colors, some pixels are rounded to another number."""
    classifier: Any = LabColors()
    model = replace(untrained_model(), classifier=classifier)
    patches = synthetic_patches(3, SIDE)
    proto = onnx_export._converted(model, classifier, patches[:2])
    (tmp_path / "model.onnx").write_bytes(proto.SerializeToString())
    colors = probabilities_of(tmp_path / "model.onnx", patches)
    assert np.abs(colors - to_lab(torch.from_numpy(patches)).numpy()).max() <= 1e-11


def test_a_folder_and_a_missing_library_are_rejected_before_the_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "model.onnx"
    folder.mkdir()
    assert run(["export", "no-model", str(folder)]) == 2
    assert f"{folder}: a folder; name a file" in capsys.readouterr().err
    monkeypatch.setattr(onnx_export, "LIBRARIES", ("onnx", "no_such_library"))
    assert run(["export", "no-model", str(tmp_path / "a.onnx")]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error == (
        "raysearch: the export needs onnx, no_such_library, and no_such_library is not installed;"
        " install raysearch[onnx]"
    )


def test_a_folder_that_cannot_be_written_to_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"the folder .*missing cannot be written to"):
        check_onnx_export(tmp_path / "missing" / "model.onnx")


class NeedsAnotherModule(torch.nn.Module):
    """A part of a model that imports a module that is not installed."""

    def forward(self, _patches: torch.Tensor) -> torch.Tensor:
        import no_such_module  # type: ignore[import-not-found]

        return torch.as_tensor(no_such_module)


def test_a_missing_module_of_other_code_is_not_taken_for_a_library_of_the_export(
    tmp_path: Path,
) -> None:
    classifier: Any = NeedsAnotherModule()
    model = replace(untrained_model(), classifier=classifier)
    with pytest.raises(StudyError, match="No module named 'no_such_module'") as error:
        export_onnx(model, tmp_path / "model.onnx")
    assert "raysearch[onnx]" not in str(error.value)


def test_a_model_above_the_limit_of_protobuf_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_export, "MAX_BYTES", 1000)
    with pytest.raises(StudyError, match="is larger than the 2 GB of an ONNX file"):
        export_onnx(untrained_model(), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


class TooLarge:
    """A model of more than 2 GB, as protobuf answers for one."""

    def ByteSize(self) -> int:  # noqa: N802
        raise EncodeError("Failed to serialize proto")


def test_the_error_of_protobuf_for_a_large_model_is_one_line() -> None:
    with pytest.raises(StudyError, match="is larger than the 2 GB of an ONNX file") as error:
        onnx_export._serialized(untrained_model(), TooLarge())  # type: ignore[arg-type]
    assert "\n" not in str(error.value)
