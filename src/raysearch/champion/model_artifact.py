"""A champion as one file: how its network is built, its weights, and a record of its data.

The weights of a frozen encoder that may not be passed on are left out: the file has their hash.
Reading the file executes nothing from it: the weights are plain tensors behind a hash, and this
package builds the network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from raysearch.champion.training_record import TrainingDataRecord
from raysearch.config.code_importer import CodeNotAllowedError
from raysearch.config.custom_code import NO_CODE, UserCode
from raysearch.config.hyperparameter_spec import Hparams, is_import_path
from raysearch.config.hyperparameters import resolve
from raysearch.config.names import BAG_ARCHITECTURES, FROZEN, encoder_path, is_encoder
from raysearch.data.pseudonyms import without_folders
from raysearch.data.shards.shard_manifest import MAX_FEATURES, TileSettings
from raysearch.errors import SpaceError, StudyError, first_line, shortened
from raysearch.models import is_bag_shape, row_unit
from raysearch.models.architectures.networks import build_network, frozen_encoder_state
from raysearch.models.classifier import (
    BagClassifier,
    Classifier,
    Member,
    PatchClassifier,
    build_ensemble,
)
from raysearch.models.dihedral import TEST_TIME_AUGMENTATIONS
from raysearch.models.encoders.encoder import Encoder
from raysearch.models.encoders.encoder_files import EncoderFile
from raysearch.models.tensor_files import is_state_dict, load_state
from raysearch.models.transfer.feature_network import (
    EXTRACTOR,
    reuse_extractor,
    with_extractors,
    without_extractors,
)
from raysearch.search.journal.codec import record_from_json, record_to_json
from raysearch.search.journal.events import ChampionDecision
from raysearch.search.journal.history import Trial
from raysearch.search.study.frozen_encoders import separate_encoder_file
from raysearch.search.study.plan import Plan
from raysearch.search.tracking.served_model import ServedRule
from raysearch.training.checkpoint import pack, unpack
from raysearch.training.network_weights import NetworkWeights
from raysearch.training.preprocessed_pixels import build_preprocessing

# The version of the file's layout; it increases with every change of the fields.
FORMAT = 7
# Format 3 has no description of an encoder. Format 4 has the weights of every frozen encoder.
# Format 5 has no code of the user's. Format 6 has no settings of tiles.
READ_FORMATS = (3, 4, 5, 6, 7)
# The architecture of a model whose encoder came from a folder.
ENCODER_FOLDER = "./encoder"
# The hyperparameters that select components of a trained model.
MODEL_SELECTORS = ("architecture", "preprocess")
NUM_CHANNELS = 3
MAX_SIDE, MAX_CLASSES, MAX_MEMBERS, MAX_MEMBERS_WITHOUT_ENCODER = 16384, 1000, 1000, 50

# Returns the file with the weights of the frozen encoder that a model has no copy of.
FindEncoder = Callable[["ModelArtifact", EncoderFile], Path]


@dataclass(frozen=True)
class ModelArtifact:
    """The description of a champion, from which its network is built.

    Attributes:
        study: Name of the study.
        study_identity: The hash that identifies the study's plan.
        trial: Name of the selected trial.
        hparams: The trial's hyperparameters.
        shape: (H, W, 3) of a patch; (patches, features, 1) of bags.
        class_names: The classes in the order of the probabilities.
        temperature: Calibration temperature of the logits.
        threshold: Smallest calibrated probability of the second class that counts as positive;
            None for more than two classes.
        num_members: Number of networks whose probabilities are averaged; 1 for a refit.
        repeat_seed: The repeat seed of an ensemble's networks; None for a refit.
        encoder: The description of the network if it is a pretrained encoder: a model is built
            without the files of its encoder.
        encoder_file: The file with the weights of the frozen encoder, which are left out of the
            model's file; None if the model's file has all weights.
        code: The code of the user's that builds the network or the preprocessing.
        tile_settings: How slides were cut into the patches that it was trained on; None if they
            were no tiles.
    """

    study: str
    study_identity: str
    trial: str
    hparams: Hparams
    shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    temperature: float
    threshold: float | None
    num_members: int = 1
    repeat_seed: int | None = None
    encoder: Encoder | None = None
    encoder_file: EncoderFile | None = None
    code: UserCode = NO_CODE
    tile_settings: TileSettings | None = None

    @property
    def served_rule(self) -> ServedRule:
        """The classes, and how the model decides between them."""
        return ServedRule(self.class_names, self.threshold)

    def build_untrained(self) -> Classifier:
        """Build the classifier with newly initialized weights."""
        return build_ensemble(self._build_members([None] * self.num_members))

    def build_trained(self, weights: Sequence[NetworkWeights]) -> Classifier:
        """Build the classifier with the weights of each member.

        Raises:
            ValueError: If a member's weights are those of another network.
        """
        return build_ensemble(self._build_members(weights))

    def build_network(self, weights: NetworkWeights | None) -> nn.Module:
        """Build one network without preprocessing; newly initialized if `weights` is None.

        Raises:
            ValueError: If the weights are those of another network.
        """
        architecture = resolve(self.hparams).architecture
        num_classes = len(self.class_names)

        def build() -> nn.Module:
            return build_network(architecture, self.shape, num_classes, self.hparams, self.encoder)

        if weights is None:
            return build()
        return load_state(build, weights.model, on_meta=not self.code.import_paths)

    @property
    def is_of_bags(self) -> bool:
        """Whether the model takes the features of slides, and not patches."""
        return is_bag_shape(self.shape)

    @property
    def unit(self) -> str:
        """What the model classifies: `SLIDES` or `PATCHES`."""
        return row_unit(self.shape)

    def encoder_state(self, path: Path) -> dict[str, Tensor]:
        """Return the weights of the frozen encoder in the file at `path`, by their names.

        Raises:
            DataError: If the file cannot be read.
            SpaceError: If its weights are those of another network.
        """
        architecture, num_classes = resolve(self.hparams).architecture, len(self.class_names)
        return frozen_encoder_state(
            architecture, self.shape, num_classes, self.hparams, self.encoder, path
        )

    def _build_members(self, weights: Sequence[NetworkWeights | None]) -> list[Member]:
        """Build the members; those with the same frozen encoder have one copy of it."""
        members: list[Member] = []
        for member_weights in weights:
            member = self._build_member(member_weights)
            if members and self.encoder_file is not None:
                reuse_extractor(member, members[0])
            members.append(member)
        return members

    def _build_member(self, weights: NetworkWeights | None) -> Member:
        if self.is_of_bags:
            return BagClassifier(self.build_network(weights), self.temperature).eval()
        preprocessing = build_preprocessing(self.hparams)
        if weights is not None:
            on_meta = not self.code.import_paths
            load_state(lambda: preprocessing, weights.preprocessing, on_meta=on_meta)
        augmentation = TEST_TIME_AUGMENTATIONS[resolve(self.hparams).tta]
        network = augmentation(self.build_network(weights))
        return PatchClassifier(network, preprocessing, self.temperature).eval()


def model_artifact_of(
    plan: Plan, trial: Trial, decision: ChampionDecision, with_encoder: bool | None = None
) -> ModelArtifact:
    """Describe the champion `trial` of the study of `plan`, with its frozen decision rule.

    Args:
        plan: The plan of the study.
        trial: The champion.
        decision: Its decision rule.
        with_encoder: Whether the model has a copy of a frozen encoder although the license of the
            weights is unknown; None as the space says.

    Raises:
        StudyError: If a copy is requested, and the license forbids it.
    """
    architecture = resolve(trial.hparams).architecture
    encoder = plan.encoder(architecture)
    encoder_name = ENCODER_FOLDER if encoder_path(architecture) else architecture
    return ModelArtifact(
        study=plan.name,
        study_identity=plan.identity,
        trial=trial.id,
        hparams={
            name: without_folders(value) if isinstance(value, str) else value
            for name, value in trial.hparams.items()
        }
        | ({"architecture": ENCODER_FOLDER} if encoder_path(architecture) else {}),
        shape=plan.shape,
        class_names=plan.class_names,
        temperature=decision.temperature,
        threshold=decision.threshold,
        num_members=trial.folds if decision.kind == "ensemble" else 1,
        repeat_seed=decision.seed,
        encoder=None if encoder is None else replace(encoder, name=encoder_name),
        encoder_file=separate_encoder_file(plan, trial.hparams, with_encoder),
        code=plan.code.only(str(trial.hparams.get(name)) for name in MODEL_SELECTORS),
        tile_settings=plan.tile_settings,
    )


@dataclass(frozen=True)
class StoredModel:
    """The content of a model's file.

    Attributes:
        artifact: The description.
        classifier: The model with its weights.
        training_data: The record of the training data; None in a copy for a worker.
    """

    artifact: ModelArtifact
    classifier: Classifier
    training_data: TrainingDataRecord | None


def pack_model_artifact(
    artifact: ModelArtifact,
    classifier: Classifier,
    training_data: TrainingDataRecord | None = None,
) -> bytes:
    """Pack the description and the weights of a model into one file, with a hash over all of it.

    Args:
        artifact: The description.
        classifier: The model with its weights.
        training_data: The record of the training data; None for a copy that only predicts.

    Returns:
        The content of the file. It has no weights of a frozen encoder if the description names the
        file that has them.
    """
    weights: Mapping[str, Tensor] = classifier.state_dict()
    if artifact.encoder_file is not None:
        weights = without_extractors(classifier, weights)
    weights = {name: value.cpu() for name, value in weights.items()}
    stored = {"format": FORMAT, "artifact": record_to_json(artifact), "weights": weights}
    if training_data is not None:
        stored["training_data"] = training_data.to_content()
    return pack(stored)


def unpack_model_artifact(content: bytes, find_encoder: FindEncoder | None = None) -> StoredModel:
    """Unpack the model that `pack_model_artifact` packed.

    Args:
        content: The content of the file.
        find_encoder: Finds the weights of a frozen encoder that the file does not have.

    Raises:
        ValueError: If the content is damaged, or has another format.
        EncoderFileError: If `find_encoder` does not find them.
        CodeNotAllowedError: If it needs code that this process may not run.
        DataError: If they cannot be read.
    """
    stored = unpack(content)
    file_format = stored.get("format", 1)
    if not isinstance(file_format, int) or file_format not in READ_FORMATS:
        raise ValueError(
            f"has format {shortened(file_format)}, and this version of raysearch reads format"
            f" {FORMAT}"
        )
    try:
        artifact = record_from_json(ModelArtifact, stored["artifact"])
        _check_description(artifact)
        _require_code(artifact)
        if not is_state_dict(stored["weights"]):
            raise ValueError("weights: not a mapping of names to tensors")
        weights = _with_encoder(artifact, stored["weights"], find_encoder)
        on_meta = not artifact.code.import_paths
        classifier = load_state(artifact.build_untrained, weights, on_meta=on_meta)
    except CodeNotAllowedError:
        raise
    except (KeyError, ValueError, StudyError, SpaceError) as error:
        raise ValueError(f"damaged ({first_line(error)})") from None
    record = stored.get("training_data")
    training_data = None if record is None else TrainingDataRecord.from_content(record)
    return StoredModel(artifact, classifier, training_data)


def _is_shape(artifact: ModelArtifact) -> bool:
    """Return whether the shape is that of patches, or of bags if the network takes these."""
    height, width, channels = artifact.shape
    if artifact.hparams.get("architecture") in BAG_ARCHITECTURES:
        return 1 <= width <= MAX_FEATURES and height >= 1 and channels == 1
    return channels == NUM_CHANNELS and 1 <= min(height, width) <= max(height, width) <= MAX_SIDE


def _with_encoder(
    artifact: ModelArtifact, weights: Mapping[str, Tensor], find_encoder: FindEncoder | None
) -> Mapping[str, Tensor]:
    """Add the weights of the frozen encoder to those of a model's file, if it does not have them.

    Nothing of the file decides which path is read: only a file with the hash of the description is.

    Raises:
        ValueError: If the description has no frozen encoder, or cannot be built.
        EncoderFileError: If `find_encoder` does not find the encoder.
        DataError, SpaceError: If its weights cannot be read, or are those of another network.
    """
    if artifact.encoder_file is None:
        return weights
    if find_encoder is None:
        raise ValueError("encoder_file: not allowed here")
    if any(f".{EXTRACTOR}" in name for name in weights):
        raise ValueError("encoder_file: the file has weights of the encoder, too")
    state = artifact.encoder_state(find_encoder(artifact, artifact.encoder_file))
    try:
        with torch.device("meta"):
            classifier = artifact.build_untrained()
    except Exception as error:  # networks of other libraries raise any class
        raise ValueError(first_line(error, 100)) from None
    return with_extractors(classifier, weights, state)


def _require_code(artifact: ModelArtifact) -> None:
    """Allow the code of a model, if this process may run it.

    Raises:
        CodeNotAllowedError: If it may not, or a package is missing.
        ValueError: If the description names functions without being allowed to.
    """
    names = {str(artifact.hparams.get(name)) for name in MODEL_SELECTORS}
    if set(filter(is_import_path, names)) != set(artifact.code.import_paths):
        raise ValueError("code: not that of the hyperparameters")
    artifact.code.require(f"the model of {shortened(artifact.study, 100)}")


def _max_members(artifact: ModelArtifact) -> int:
    """Return the largest number of members: each is built with its encoder, stored or not."""
    return MAX_MEMBERS if artifact.encoder_file is None else MAX_MEMBERS_WITHOUT_ENCODER


def _check_description(artifact: ModelArtifact) -> None:
    """Check the numbers of a description; ValueError if one is out of its range."""
    if is_encoder(str(artifact.hparams.get("architecture"))) != (artifact.encoder is not None):
        # Without a description, files of this machine would be read, or files be downloaded.
        raise ValueError("encoder: missing, or not one of the architecture")
    if artifact.encoder_file is not None:
        params = resolve(artifact.hparams)
        is_valid = artifact.encoder_file.is_valid(params.architecture, params.weights)
        if params.adaptation != FROZEN or not is_valid:
            raise ValueError("encoder_file: not a file of a frozen encoder")
    names = artifact.class_names
    thresholds = () if artifact.threshold is None else (artifact.threshold,)
    checks = {
        "shape": _is_shape(artifact),
        "class_names": 2 <= len(names) <= MAX_CLASSES and len(set(names)) == len(names),
        "temperature": math.isfinite(artifact.temperature) and artifact.temperature > 0,
        "threshold": all(map(math.isfinite, thresholds)),
        "num_members": 1 <= artifact.num_members <= _max_members(artifact),
    }
    for name, is_valid in checks.items():
        if not is_valid:
            raise ValueError(f"{name}: out of range")
