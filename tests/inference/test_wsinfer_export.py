"""A model is exported as a folder of WSInfer, which gives its calibrated probabilities."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
import warnings
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from raysearch.data.shards.shard_manifest import TileSettings
from raysearch.errors import DataError, StudyError
from raysearch.inference import wsinfer_export
from raysearch.inference.model_loading import Model, predict_proba
from raysearch.inference.wsinfer_export import export_wsinfer
from raysearch.models.classifier import Ensemble, PatchClassifier
from raysearch.models.encoders.encoder_files import EncoderFile
from raysearch.models.encoders.encoder_table import ENCODERS
from support import run_wsinfer
from support.source_images import synthetic_patches
from support.untrained_models import SIDE, untrained_model

MPP = 0.5
NUM_PATCHES, COLUMNS = 24, 6
# What WSInfer reads: the patches of the model, and patches of twice as many pixels.
SLIDES = {"same": 1, "finer": 2}
HPARAMS: dict[str, Any] = {
    "architecture": "benchmark",
    "preprocess": "reinhard",
    "tta": "dihedral",
}


def fitted_model(members: int = 2, **hparams: Any) -> Model:
    """A model whose probabilities differ between patches, with a fitted preprocessing."""
    model = untrained_model(members=members, **(hparams or HPARAMS))
    classifier = model.classifier
    patches = torch.from_numpy(synthetic_patches(8, SIDE, seed=5))
    for member in classifier.members if isinstance(classifier, Ensemble) else [classifier]:
        assert isinstance(member, PatchClassifier)
        preprocessing: Any = member.preprocessing
        preprocessing.fit(patches)
        linear = [layer for layer in member.modules() if isinstance(layer, torch.nn.Linear)]
        with torch.no_grad():
            linear[-1].weight *= 30
    return model


def probabilities(model: Model, patches: NDArray[np.uint8]) -> NDArray[np.float64]:
    """What `raysearch predict` computes."""
    return predict_proba(model, patches.reshape(len(patches), -1))


def torchscript(folder: Path, patches: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The softmax of what the file returns for patches."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        program: Any = torch.jit.load(  # type: ignore[no-untyped-call]
            folder / wsinfer_export.MODEL_FILE
        )
        images = torch.from_numpy(patches).permute(0, 3, 1, 2).float() / 255
        return np.asarray(torch.softmax(program(images), dim=1))


@dataclass(frozen=True)
class Run:
    """A model, its export, and what WSInfer computed with it."""

    model: Model
    folder: Path
    printed: str
    # By slide: the patches in the size of the model, and WSInfer's probabilities.
    patches: dict[str, NDArray[np.uint8]]
    probabilities: dict[str, NDArray[np.float64]]


@pytest.fixture(scope="module")
def wsinfer_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """WSInfer's run on two slides, in a process that cannot import raysearch."""
    top = tmp_path_factory.mktemp("wsinfer")
    model = fitted_model()
    export_wsinfer(model, top / "model", MPP)
    (top / "slides").mkdir()
    (top / "results" / "patches").mkdir(parents=True)
    patches = {name: write_slide(top, name, scale) for name, scale in SLIDES.items()}
    program = [sys.executable, "-I", run_wsinfer.__file__]
    ran = subprocess.run(
        [*program, *(str(top / name) for name in ("model", "slides", "results"))],
        env={**os.environ, "HOME": str(top), "WSINFER_FORCE_CPU": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    results = {name: read_results(top, name) for name in SLIDES}
    return Run(model, top / "model", ran.stdout, patches, results)


def write_slide(top: Path, name: str, scale: int) -> NDArray[np.uint8]:
    """Write a slide of patches and their positions; return them in the size of the model."""
    side = SIDE * scale
    patches = synthetic_patches(NUM_PATCHES, side, seed=scale)
    rows = [
        np.concatenate([*row], axis=1) for row in patches.reshape(-1, COLUMNS, *patches[0].shape)
    ]
    Image.fromarray(np.concatenate(rows)).save(top / "slides" / f"{name}.png")
    numbers = np.arange(NUM_PATCHES)
    with h5py.File(top / "results" / "patches" / f"{name}.h5", "w") as file:
        positions = np.stack([numbers % COLUMNS, numbers // COLUMNS], axis=1) * side
        coords = file.create_dataset("coords", data=positions)
        coords.attrs.update({"patch_level": 0, "patch_size": side})
    resized = [
        Image.fromarray(patch).resize((SIDE, SIDE), Image.Resampling.BILINEAR) for patch in patches
    ]
    return np.stack([np.asarray(image) for image in resized])


def read_results(top: Path, name: str) -> NDArray[np.float64]:
    file = top / "results" / "model-outputs-csv" / f"{name}.csv"
    with file.open(newline="") as lines:
        rows = [*csv.DictReader(lines)]
    return np.array(
        [[float(row[f"prob_{name}"]) for name in ("negative", "positive")] for row in rows]
    )


@pytest.mark.parametrize("slide", SLIDES)
def test_wsinfer_computes_the_probabilities_of_predict(wsinfer_run: Run, slide: str) -> None:
    expected = probabilities(wsinfer_run.model, wsinfer_run.patches[slide])
    assert np.ptp(expected, axis=0).min() > 0.05  # the patches have different probabilities
    assert np.abs(wsinfer_run.probabilities[slide] - expected).max() <= 1e-5


def test_calibration_preprocessing_augmentation_and_each_member_change_the_probabilities(
    wsinfer_run: Run,
) -> None:
    """An export without one of them would not pass the test above."""
    members: Any = wsinfer_run.model.classifier.members
    patches = wsinfer_run.patches["same"]
    for attribute, value in (
        ("temperature", 1.0),
        ("preprocessing", torch.nn.Identity()),
        ("net", next(members[0].net.children())),
    ):
        before = getattr(members[0], attribute)
        setattr(members[0], attribute, value)
        changed = probabilities(wsinfer_run.model, patches)
        setattr(members[0], attribute, before)
        assert np.abs(changed - wsinfer_run.probabilities["same"]).max() > 1e-3, attribute
    single = replace(wsinfer_run.model, classifier=members[0])
    difference = probabilities(single, patches) - wsinfer_run.probabilities["same"]
    assert np.abs(difference).max() > 1e-3


def test_the_validator_of_the_model_zoo_accepts_the_configuration(wsinfer_run: Run) -> None:
    assert "Configuration file is VALID" in wsinfer_run.printed
    assert sorted(path.name for path in wsinfer_run.folder.iterdir()) == [
        "config.json",
        "torchscript_model.pt",
    ]
    assert json.loads((wsinfer_run.folder / "config.json").read_text()) == {
        "spec_version": "1.0",
        "architecture": "benchmark",
        "num_classes": 2,
        "class_names": ["negative", "positive"],
        "patch_size_pixels": SIDE,
        "spacing_um_px": MPP,
        "transform": [
            {"name": "Resize", "arguments": {"size": SIDE}},
            {"name": "ToTensor", "arguments": {}},
        ],
    }


def test_the_file_has_no_path_of_this_machine(wsinfer_run: Run) -> None:
    with zipfile.ZipFile(wsinfer_run.folder / "torchscript_model.pt") as archive:
        content = b"".join(map(archive.read, archive.namelist()))
    assert str(Path(torch.__file__).parents[1]).encode() not in content
    assert str(Path(__file__).parents[2]).encode() not in content


@pytest.mark.parametrize(
    "preprocess", ["none", "sharpen", "gaussian", "median", "clahe", "reinhard", "macenko"]
)
def test_each_preprocessing_is_a_part_of_the_file(preprocess: str, tmp_path: Path) -> None:
    model = fitted_model(1, architecture="benchmark", preprocess=preprocess)
    exported = export_wsinfer(model, tmp_path / "model", MPP)
    assert exported.max_difference <= 1e-6
    patches = synthetic_patches(5, SIDE)
    computed = torchscript(tmp_path / "model", patches)
    assert np.abs(computed - probabilities(model, patches)).max() <= 1e-6
    plain = fitted_model(1, architecture="benchmark", preprocess="none")
    differs = np.abs(computed - probabilities(plain, patches)).max() > 1e-3
    assert differs == (preprocess != "none")


def test_a_probability_of_zero_has_a_finite_logarithm(tmp_path: Path) -> None:
    model = fitted_model(1, architecture="benchmark")
    linear = [layer for layer in model.classifier.modules() if isinstance(layer, torch.nn.Linear)]
    with torch.no_grad():
        linear[-1].bias.copy_(torch.tensor([1000.0, -1000.0]))
    patches = synthetic_patches(2, SIDE)
    assert probabilities(model, patches)[:, 1].max() == 0
    export_wsinfer(model, tmp_path / "model", MPP)
    assert torchscript(tmp_path / "model", patches)[:, 1].max() <= 1e-30


@pytest.mark.parametrize(
    ("architecture", "is_on_cpu_only"), [("cnn", False), ("p4m", True)], ids=["cnn", "p4m"]
)
def test_a_note_says_that_wsinfer_has_no_threshold_and_whether_a_gpu_can_be_used(
    architecture: str, is_on_cpu_only: bool, tmp_path: Path
) -> None:
    model = untrained_model(architecture=architecture, width=4, convolutions=1)
    threshold, *others = export_wsinfer(model, tmp_path / "model", MPP).notes
    assert "not the decision by the threshold 0.400 of 'positive'" in threshold
    assert ["the network has tensors that stay on the CPU" in note for note in others] == (
        [True] if is_on_cpu_only else []
    )


def test_three_classes_have_no_threshold_and_timm_names_the_architecture(tmp_path: Path) -> None:
    model = untrained_model(
        class_names=("a", "b", "c"), architecture="timm:test_vit", input_size=32
    )
    exported = export_wsinfer(model, tmp_path / "model", MPP)
    assert exported.notes == ()
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["architecture"] == "test_vit"
    assert (config["num_classes"], config["class_names"]) == (3, ["a", "b", "c"])


def with_encoder_file(name: str) -> Model:
    """A model whose frozen encoder is not a part of it."""
    model = untrained_model()
    hparams: dict[str, Any] = {
        "architecture": name,
        "adaptation": "frozen",
        "weights": "pretrained",
    }
    artifact = replace(
        model.artifact,
        hparams=hparams,
        encoder=ENCODERS[name],
        encoder_file=EncoderFile(name, "0" * 64),
    )
    return replace(model, artifact=artifact)


def with_forbidden_encoder() -> Model:
    """A model of an earlier version, which has the weights of a frozen encoder in any case."""
    model = with_encoder_file("uni")
    return replace(model, artifact=replace(model.artifact, encoder_file=None))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (untrained_model((8, 16, 1), architecture="abmil"), "a model of slides, which is not exp"),
        (untrained_model((24, 32, 3)), "its patches have 32x24 pixels, and WSInfer reads square"),
        (with_encoder_file("uni"), "the terms of uni .*forbid a copy .* only by request"),
        (with_forbidden_encoder(), "the terms of uni .*forbid a copy .* only by request"),
        (with_encoder_file("phikon"), "no copy of its encoder, .* `raysearch select --with-enc"),
    ],
    ids=["slides", "rectangle", "separate", "contained", "unknown"],
)
def test_a_model_that_cannot_be_exported_is_rejected_in_one_line(
    model: Model, message: str, tmp_path: Path
) -> None:
    with pytest.raises(StudyError, match=message) as error:
        export_wsinfer(model, tmp_path / "model", MPP)
    assert "\n" not in str(error.value)
    assert [*tmp_path.iterdir()] == []


def model_of_tiles() -> Model:
    """A model of tiles of slides, of 0.25 micrometres a pixel."""
    model = untrained_model()
    artifact = replace(model.artifact, tile_settings=TileSettings(0.25, 0, 0.5))
    return replace(model, artifact=artifact)


@pytest.mark.parametrize(
    ("model", "mpp", "expected"),
    [(untrained_model(), 0.5, 0.5), (model_of_tiles(), None, 0.25), (model_of_tiles(), 0.25, 0.25)],
)
def test_the_size_of_a_pixel_is_that_of_the_user_or_of_the_tiles_of_the_model(
    model: Model, mpp: float | None, expected: float, tmp_path: Path
) -> None:
    assert export_wsinfer(model, tmp_path / "model", mpp).mpp == expected
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["spacing_um_px"] == expected


IMPOSSIBLE = "give 0.05 to 20 micrometres a pixel"


@pytest.mark.parametrize(
    ("model", "mpp", "message"),
    [
        (untrained_model(), None, "--format wsinfer: the model does not say the size of the pixe"),
        (model_of_tiles(), 0.5, "--mpp 0.5: the model was trained on tiles of 0.25 micrometres a"),
        (untrained_model(), 40.0, f"--mpp 40: {IMPOSSIBLE}"),
        (model_of_tiles(), 0.0, f"--mpp 0: {IMPOSSIBLE}"),
        (untrained_model(), -0.5, f"--mpp -0.5: {IMPOSSIBLE}"),
        (untrained_model(), float("nan"), f"--mpp nan: {IMPOSSIBLE}"),
        (untrained_model(), float("inf"), f"--mpp inf: {IMPOSSIBLE}"),
    ],
)
def test_an_unknown_contradicting_or_impossible_size_of_a_pixel_is_rejected(
    model: Model, mpp: float | None, message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError) as error:
        export_wsinfer(model, tmp_path / "model", mpp)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
    assert [*tmp_path.iterdir()] == []


def test_an_existing_folder_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="already exists; remove it, or name another folder"):
        export_wsinfer(untrained_model(), tmp_path, MPP)
    assert [*tmp_path.iterdir()] == []


class WithoutTrace(torch.nn.Module):
    """A network that cannot be traced."""

    def forward(self, _batch: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no trace\nof it")


class Conditional(torch.nn.Module):
    """A network with a condition, of which a trace has one branch."""

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        sign = 1.0 if batch.amin() < -0.99 else -1.0  # of black pixels
        return torch.stack([batch.mean(dim=(1, 2, 3)), batch.amax(dim=(1, 2, 3)) * sign], dim=1)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (WithoutTrace(), r"has a part that TorchScript does not have \(no trace\)"),
        (Conditional(), "the probabilities of the exported model differ by .* synthetic patches"),
    ],
    ids=["error", "condition"],
)
def test_a_network_that_torchscript_does_not_reproduce_is_rejected(
    network: torch.nn.Module, message: str, tmp_path: Path
) -> None:
    model = untrained_model()
    assert isinstance(model.classifier, PatchClassifier)
    model.classifier.net = network
    with pytest.raises(StudyError, match=message) as error:
        export_wsinfer(model, tmp_path / "model", MPP)
    assert "\n" not in str(error.value)
    assert [*tmp_path.iterdir()] == []


def test_nothing_remains_of_a_folder_that_could_not_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_at_last(path: Path, content: bytes) -> None:
        if path.name == wsinfer_export.CONFIG_FILE:
            raise OSError(28, "No space left on device")
        path.write_bytes(content)

    monkeypatch.setattr(wsinfer_export, "write_file", fail_at_last)
    with pytest.raises(DataError, match=re.escape(str(tmp_path / "model"))) as error:
        export_wsinfer(untrained_model(), tmp_path / "model", MPP)
    assert "\n" not in str(error.value)
    assert [*tmp_path.iterdir()] == []
