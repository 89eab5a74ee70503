"""Components of the user's train, are stored with the model, and run only where they may."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import wraps
from pathlib import Path

import numpy as np
import pytest
import torch

from raysearch.champion.model_artifact import (
    ModelArtifact,
    pack_model_artifact,
    unpack_model_artifact,
)
from raysearch.config import custom_code
from raysearch.config.code_importer import CodeImporter, CodeNotAllowedError
from raysearch.config.component_section import user_code
from raysearch.config.custom_code import UserCode
from raysearch.config.hyperparameter_spec import Hparams
from raysearch.config.space_file import read_space
from raysearch.errors import SpaceError
from raysearch.models.architectures.networks import build_network, check_patch_shape
from raysearch.training.cost_measurement import net_costs
from raysearch.training.loop import train
from raysearch.training.train_config import TrainConfig
from raysearch.training.training_data import TrainingData
from support.own_components import write_own_components
from support.recorded_training import Recorder

NAME = "own_training"
HPARAMS: Hparams = {
    "architecture": f"{NAME}:build",
    "depth": 2,
    "activation": "gelu",
    "width": 4,
    "loss": f"{NAME}:squared_hinge",
    "margin": 2.0,
    "optimizer": f"{NAME}:nadam",
    "schedule": f"{NAME}:halving",
    "augment": f"{NAME}:noise",
    "sigma": 0.05,
    "preprocess": f"{NAME}:centered",
    "learning_rate": 0.003,
    "batch_size": 32,
}
METRIC = f"{NAME}:mean_probability"


@pytest.fixture
def code(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UserCode]:
    """The code of a space whose modules this process has imported."""
    space = read_space(write_own_components(tmp_path_factory.mktemp("own"), NAME))
    yield user_code(space)
    for module in (NAME, f"{NAME}_layers"):
        sys.modules.pop(module, None)


@pytest.mark.usefixtures("code")
def test_a_trial_trains_by_components_of_the_users_alone(data: TrainingData) -> None:
    recorder = Recorder()
    config = TrainConfig(HPARAMS, 1, METRIC, 0, custom_metrics=(METRIC,))
    train(config, data, recorder)
    last = recorder.fold_epochs[-1]
    scores = recorder.val_scores[-1]
    probabilities = torch.softmax(torch.from_numpy(scores.logits).double(), dim=1).numpy()
    labels = data.labels.numpy()[scores.rows]
    assert last.metrics[METRIC] == pytest.approx(
        np.mean(probabilities[np.arange(len(labels)), labels])
    )
    values = [entry.metrics[METRIC] for entry in recorder.fold_epochs]
    assert last.objective == pytest.approx(np.mean(np.array(values, np.float64)))
    changed = Recorder()
    train(replace(config, hparams={**HPARAMS, "margin": 0.5}), data, changed)
    assert changed.fold_epochs[0].loss != recorder.fold_epochs[0].loss


@pytest.mark.usefixtures("code")
def test_costs_are_those_of_the_network_with_its_hyperparameters(data: TrainingData) -> None:
    costs = net_costs(TrainConfig(HPARAMS, 1, METRIC, 0), data)
    network = build_network(f"{NAME}:build", data.shape, len(data.class_names), HPARAMS)
    assert costs["parameters"] == sum(parameter.numel() for parameter in network.parameters())
    deeper = net_costs(TrainConfig({**HPARAMS, "depth": 4}, 1, METRIC, 0), data)
    assert deeper["parameters"] > costs["parameters"]
    assert deeper["flops"] > costs["flops"] > 0


@pytest.mark.usefixtures("code")
def test_a_network_that_does_not_fit_is_named_with_its_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def failing(*_arguments: object, **_options: object) -> None:
        raise KeyError("stem")

    check_patch_shape(f"{NAME}:build", (50, 50, 3), HPARAMS)
    monkeypatch.setattr(sys.modules[NAME], "build", failing)
    with pytest.raises(SpaceError, match=r"own_training:build cannot take patches.*KeyError"):
        check_patch_shape(f"{NAME}:build", (50, 50, 3), HPARAMS)


@pytest.mark.parametrize(
    ("component", "replacement", "message"),
    [
        ("squared_hinge", lambda logits, *_rest, **_options: logits.mean(), "one loss a row"),
        ("noise", lambda batch, _generator, **_options: batch[:, :1], "patches of the same shape"),
        ("centered", lambda: torch.nn.AvgPool3d(1), "return uint8 of shape"),
    ],
)
@pytest.mark.usefixtures("code")
def test_a_component_with_another_result_is_rejected(
    data: TrainingData,
    monkeypatch: pytest.MonkeyPatch,
    component: str,
    replacement: object,
    message: str,
) -> None:
    monkeypatch.setattr(sys.modules[NAME], component, replacement)
    hparams = {key: value for key, value in HPARAMS.items() if key not in ("margin", "sigma")}
    with pytest.raises((ValueError, RuntimeError)) as error:
        train(TrainConfig(hparams, 1, "auroc", 0), data, Recorder())
    assert component == "centered" or message in str(error.value)


def artifact(code: UserCode) -> ModelArtifact:
    return ModelArtifact(
        study="first",
        study_identity="0123",
        trial="t0001",
        hparams=HPARAMS,
        shape=(50, 50, 3),
        class_names=("negative", "positive"),
        temperature=1.5,
        threshold=0.25,
        code=code.only([f"{NAME}:build", f"{NAME}:centered"]),
    )


def test_a_model_has_its_code_and_runs_it_only_if_allowed(
    code: UserCode, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = artifact(code)
    assert described.code.import_paths == (f"{NAME}:build", f"{NAME}:centered")
    classifier = described.build_untrained()
    packed = pack_model_artifact(described, classifier)
    patches = torch.randint(0, 256, (3, 50, 50, 3), dtype=torch.uint8)
    with torch.inference_mode():
        expected = classifier(patches)
    # Another process, without the folder of the space.
    importer = CodeImporter()
    for module in (NAME, f"{NAME}_layers"):
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(custom_code, "CODE_IMPORTER", importer)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path[1:]))
    with pytest.raises(CodeNotAllowedError, match="the model of first runs code of its own"):
        unpack_model_artifact(packed)
    assert NAME not in sys.modules
    importer.trust_stored()
    stored = unpack_model_artifact(packed)
    with torch.inference_mode():
        assert torch.equal(stored.classifier(patches), expected)


def test_a_model_that_hides_its_code_is_damaged(code: UserCode) -> None:
    classifier = artifact(code).build_untrained()
    hidden = replace(artifact(code), code=UserCode())
    with pytest.raises(ValueError, match=r"damaged .code: not that of the hyperparameters"):
        unpack_model_artifact(pack_model_artifact(hidden, classifier))
    other = replace(artifact(code), hparams={**HPARAMS, "preprocess": "none"})
    with pytest.raises(ValueError, match=r"damaged .code"):
        unpack_model_artifact(pack_model_artifact(other, classifier))


def test_the_modules_are_found_beside_the_space_only(code: UserCode, tmp_path: Path) -> None:
    assert {file.path for file in code.files} == {f"{NAME}.py", f"{NAME}_layers.py"}
    space = tmp_path / "space.yaml"
    space.write_text(f"space: {{folds: 2, architecture: 'own_elsewhere:build', depth: {1}}}\n")
    with pytest.raises(SpaceError, match="there is no module 'own_elsewhere'"):
        read_space(space)


class Unstored:
    """A preprocessing whose fitted values are in no buffer."""

    def fit(self, patches: torch.Tensor) -> None:
        self.mean = patches.float().mean()

    def __call__(self, patches: torch.Tensor) -> torch.Tensor:
        return patches


@pytest.mark.usefixtures("code")
def test_a_preprocessing_must_store_what_it_fits(
    data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[NAME], "centered", Unstored)
    with pytest.raises(SpaceError, match="has a method `fit`, and nothing that is stored"):
        train(TrainConfig(HPARAMS, 1, "auroc", 0), data, Recorder())


@pytest.mark.usefixtures("code")
def test_the_stage_of_the_head_has_the_declared_hyperparameters(data: TrainingData) -> None:
    hparams = {**HPARAMS, "head_epochs": 1, "optimizer": "adamw", "preprocess": "none"}
    recorder = Recorder()
    train(TrainConfig(hparams, 2, "auroc", 0), data, recorder)
    assert len(recorder.fold_epochs) == 4


@pytest.mark.usefixtures("code")
def test_a_network_that_reads_values_of_tensors_is_stored_and_loaded(
    code: UserCode, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = sys.modules[NAME].build

    @wraps(build)
    def reading(*arguments: object, **options: object) -> object:
        assert [value.item() for value in torch.linspace(0, 1, 3)] == [0.0, 0.5, 1.0]
        return build(*arguments, **options)

    monkeypatch.setattr(sys.modules[NAME], "build", reading)
    classifier = artifact(code).build_untrained()
    stored = unpack_model_artifact(pack_model_artifact(artifact(code), classifier))
    assert stored.classifier.state_dict().keys() == classifier.state_dict().keys()
