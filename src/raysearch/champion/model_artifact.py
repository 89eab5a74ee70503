"""A champion as one file: how its network is built, its weights, and its training data.

Reading the file executes nothing from it: the weights are plain tensors behind a hash, and this
package builds the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from raysearch.config.hyperparameter_spec import Hparams
from raysearch.config.hyperparameters import resolve
from raysearch.data.shards.rows import View
from raysearch.errors import StudyError
from raysearch.models.architectures.networks import build_network
from raysearch.models.classifier import Classifier, PatchClassifier, build_ensemble
from raysearch.models.dihedral import TEST_TIME_AUGMENTATIONS
from raysearch.search.journal.codec import record_from_json, record_to_json
from raysearch.search.journal.events import ChampionDecision
from raysearch.search.journal.history import Trial
from raysearch.search.study.plan import Plan
from raysearch.training.checkpoint import pack, unpack
from raysearch.training.network_weights import NetworkWeights
from raysearch.training.preprocessed_pixels import build_preprocessing

# The version of the file's layout; it increases with every change of the fields.
FORMAT = 2


@dataclass(frozen=True)
class AuxiliaryDataRecord:
    """Auxiliary shards of a training: their address, and the rows that it sees."""

    data: str
    view: View


@dataclass(frozen=True)
class TrainingDataRecord:
    """The data that a model was trained on.

    Attributes:
        data: Path or address of the shards.
        fingerprint: The hash over the shards.
        view: The rows of the shards that the training sees.
        auxiliary: Auxiliary shards.
    """

    data: str
    fingerprint: str
    view: View
    auxiliary: tuple[AuxiliaryDataRecord, ...] = ()


@dataclass(frozen=True)
class ModelArtifact:
    """The description of a champion, from which its network is built.

    Attributes:
        study: Name of the study.
        study_identity: The hash that identifies the study's plan.
        trial: Name of the selected trial.
        hparams: The trial's hyperparameters.
        shape: (H, W, 3) of a patch.
        class_names: The classes in the order of the probabilities.
        temperature: Calibration temperature of the logits.
        threshold: Smallest calibrated probability of the second class that counts as positive;
            None for more than two classes.
        training_data: The data that the model was trained on.
        num_members: Number of networks whose probabilities are averaged; 1 for a refit.
        repeat_seed: The repeat seed of an ensemble's networks; None for a refit.
    """

    study: str
    study_identity: str
    trial: str
    hparams: Hparams
    shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    temperature: float
    threshold: float | None
    training_data: TrainingDataRecord
    num_members: int = 1
    repeat_seed: int | None = None

    def build_untrained(self) -> Classifier:
        """Build the classifier with newly initialized weights."""
        return build_ensemble([self._build_member(None) for _ in range(self.num_members)])

    def build_trained(self, weights: Sequence[NetworkWeights]) -> Classifier:
        """Build the classifier with the weights of each member."""
        return build_ensemble([self._build_member(member) for member in weights])

    def build_network(self, weights: NetworkWeights | None) -> nn.Module:
        """Build one network without preprocessing; newly initialized if `weights` is None."""
        architecture = resolve(self.hparams).architecture
        network = build_network(architecture, self.shape, len(self.class_names), self.hparams)
        if weights is not None:
            network.load_state_dict(dict(weights.model))
        return network

    def _build_member(self, weights: NetworkWeights | None) -> PatchClassifier:
        preprocessing = build_preprocessing(self.hparams)
        if weights is not None:
            preprocessing.load_state_dict(dict(weights.preprocessing))
        augmentation = TEST_TIME_AUGMENTATIONS[resolve(self.hparams).tta]
        network = augmentation(self.build_network(weights))
        return PatchClassifier(network, preprocessing, self.temperature).eval()


def model_artifact_of(plan: Plan, trial: Trial, decision: ChampionDecision) -> ModelArtifact:
    """Describe the champion `trial` of the study of `plan`, with its frozen decision rule."""
    return ModelArtifact(
        study=plan.name,
        study_identity=plan.identity,
        trial=trial.id,
        hparams=dict(trial.hparams),
        shape=plan.shape,
        class_names=plan.class_names,
        temperature=decision.temperature,
        threshold=decision.threshold,
        training_data=TrainingDataRecord(
            plan.data,
            plan.fingerprint,
            plan.view,
            tuple(AuxiliaryDataRecord(shards.data, shards.view) for shards in plan.auxiliary),
        ),
        num_members=trial.folds if decision.kind == "ensemble" else 1,
        repeat_seed=decision.seed,
    )


def pack_model_artifact(artifact: ModelArtifact, classifier: Classifier) -> bytes:
    """Pack the description and the weights of a model into one file, with a hash over both."""
    weights: dict[str, Tensor] = {
        name: value.cpu() for name, value in classifier.state_dict().items()
    }
    return pack({"format": FORMAT, "artifact": record_to_json(artifact), "weights": weights})


def unpack_model_artifact(content: bytes) -> tuple[ModelArtifact, Classifier]:
    """Unpack the description and the model that `pack_model_artifact` packed.

    Raises:
        ValueError: If the content is damaged, or has another format.
    """
    stored = unpack(content)
    file_format = stored.get("format", 1)
    if file_format != FORMAT:
        raise ValueError(
            f"has format {file_format}, and this version of raysearch reads format {FORMAT}"
        )
    try:
        artifact = record_from_json(ModelArtifact, stored["artifact"])
        classifier = artifact.build_untrained()
        classifier.load_state_dict(stored["weights"])
    except (KeyError, TypeError, RuntimeError, StudyError) as error:
        raise ValueError(f"damaged ({error})") from None
    return artifact, classifier
