"""A champion as one file: what builds its net again, its weights, and what it learned from.

It is read without running anything that a file says: weights are plain tensors behind a hash, and
the net is built by this package.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn

from raysearch.data.view import View
from raysearch.models.architectures import build
from raysearch.models.classifier import Classifier, PatchClassifier, together
from raysearch.models.dihedral import AVERAGES
from raysearch.search.journal.history import Trial
from raysearch.search.study.plan import Plan
from raysearch.training.checkpoint import pack, unpack
from raysearch.training.components import DEFAULTS
from raysearch.training.preprocessed_pixels import preprocessing_of


@dataclass(frozen=True)
class Learned:
    """What a model learned from: of the shards at `data` what `view` shows, and `auxiliary` ones.

    `fingerprint` is the hash over the shards.
    """

    data: str
    fingerprint: str
    view: View
    auxiliary: tuple[tuple[str, View], ...] = ()


@dataclass(frozen=True)
class ModelArtifact:
    """Whose champion it is (the study's `identity`, the `trial`), and how its net is built.

    `threshold` is of the calibrated probability of the second of two classes. Of an ensemble there
    are several `members`, of one architecture, and `seed` is the fresh one that they learned with.
    """

    study: str
    identity: str
    trial: str
    hparams: Mapping[str, Any]
    shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    temperature: float
    threshold: float | None
    learned: Learned
    members: int = 1
    seed: int | None = None

    def build(self) -> Classifier:
        """The model with fresh weights: each net behind its pre-processing."""
        return together([self._member() for _one in range(self.members)])

    def trained(self, stored: Sequence[Mapping[str, Any]]) -> Classifier:
        """The model with what a training of each member `stored`: `model`, `preprocessing`."""
        return together([self._member(one) for one in stored])

    def net(self, stored: Mapping[str, Any] | None = None) -> nn.Module:
        """A bare net of the recipe, with the weights that a training of it `stored`, or fresh."""
        architecture = str(self.hparams.get("architecture", DEFAULTS["architecture"]))
        net = build(architecture, self.shape, len(self.class_names), self.hparams)
        if stored is not None:
            net.load_state_dict(stored["model"])
        return net

    def _member(self, stored: Mapping[str, Any] | None = None) -> PatchClassifier:
        """A net as it is used: behind its pre-processing, over all its views, calibrated."""
        preprocessing = preprocessing_of(self.hparams)
        if stored is not None:
            preprocessing.load_state_dict(stored.get("preprocessing", {}))
        averaged = AVERAGES[self.hparams.get("tta", "none")](self.net(stored))
        return PatchClassifier(averaged, preprocessing, self.temperature).eval()


def artifact_of(plan: Plan, trial: Trial, locked: Mapping[str, Any]) -> ModelArtifact:
    """That of `trial` of the study of `plan`, with what was `locked` when it was crowned."""
    auxiliary = tuple((one.data, one.view) for one in plan.auxiliary)
    return ModelArtifact(
        study=plan.name,
        identity=plan.identity,
        trial=trial.id,
        hparams=dict(trial.hparams),
        shape=plan.shape,
        class_names=plan.class_names,
        temperature=float(locked.get("temperature", 1.0)),
        threshold=locked.get("threshold"),
        learned=Learned(plan.data, plan.fingerprint, plan.view, auxiliary),
        members=trial.folds if locked.get("kind") == "ensemble" else 1,
        seed=locked.get("seed"),
    )


def pack_artifact(recipe: ModelArtifact, model: Classifier) -> bytes:
    """`recipe` and the weights of `model`, with a hash over both."""
    weights: dict[str, Tensor] = {name: one.cpu() for name, one in model.state_dict().items()}
    return pack({"recipe": asdict(recipe), "weights": weights})


def unpack_artifact(content: bytes) -> tuple[ModelArtifact, Classifier]:
    """What `pack_artifact` took; ValueError where a byte is not what it was."""
    stored = unpack(content)
    try:
        told = stored["recipe"]
        learned = told["learned"]
        auxiliary = tuple((data, _view(view)) for data, view in learned["auxiliary"])
        learned = Learned(**{**learned, "view": _view(learned["view"]), "auxiliary": auxiliary})
        lists = {name: tuple(told[name]) for name in ("shape", "class_names")}
        recipe = ModelArtifact(**{**told, **lists, "learned": learned})
        model = recipe.build()
        model.load_state_dict(stored["weights"])
    except (KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"of another version of raysearch ({error})") from None
    return recipe, model


def _view(told: Mapping[str, Any]) -> View:
    return View(**{**told, "held_out": tuple(told["held_out"])})
