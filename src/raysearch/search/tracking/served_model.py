"""The answer of a registered model to `mlflow.pyfunc` and `mlflow models serve`: classes by name.

MLflow copies this file into the folder of each registered model, and imports it there. It therefore
imports nothing of raysearch: a model can be loaded where only MLflow and torch are installed.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

RULE_FILE = "decision_rule.json"
CLASS, PROBABILITY, DECISION, SCORE_PREFIX = "class", "probability", "decision", "score_"
BATCH_SIZE = 256
# MLflow loads to a GPU if there is one, and an exported program stays on the device of its export.
DEVICE = {"device": "cpu"}


@dataclass(frozen=True)
class ServedRule:
    """How probabilities become classes.

    Attributes:
        class_names: The classes in the order of the probabilities.
        threshold: Smallest probability of the second class that is decided as that class; None for
            more than two classes.
    """

    class_names: tuple[str, ...]
    threshold: float | None

    def columns(self, probabilities: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Return the columns of the answer, each (N,), for probabilities (N, C).

        `class` is the most probable class and `probability` its probability. `decision` is the
        class by the threshold, or the most probable one without a threshold.
        """
        names = np.array(self.class_names, np.str_)
        most_probable = probabilities.argmax(axis=1)
        decided = (
            most_probable
            if self.threshold is None
            else (probabilities[:, 1] >= self.threshold).astype(np.int64)
        )
        return {
            CLASS: names[most_probable],
            PROBABILITY: probabilities.max(axis=1),
            DECISION: names[decided],
        }

    def write(self, folder: Path) -> None:
        """Write the rule to `folder`, from which `read_rule` reads it."""
        (folder / RULE_FILE).write_text(json.dumps(asdict(self)), encoding="utf-8")


def read_rule(folder: Path) -> ServedRule:
    """Read the rule that `ServedRule.write` wrote to `folder`."""
    content = json.loads((folder / RULE_FILE).read_text(encoding="utf-8"))
    return ServedRule(tuple(content["class_names"]), content["threshold"])


class ServedModel:
    """A model in the form that `mlflow.pyfunc` calls."""

    def __init__(self, network: Any, rule: ServedRule) -> None:
        self._network, self._rule = network, rule

    def predict(self, patches: NDArray[Any], _params: object = None) -> pd.DataFrame:
        """Return class, probability, decision and the probability of each class for `patches`.

        Args:
            patches: Patches, uint8 (N, H, W, 3), or the features of the patches of slides, float32
                (N, patches, features), with NaN in place of patches that a slide does not have.
        """
        import pandas as pd

        batches = [
            self._network.predict(np.ascontiguousarray(patches[start : start + BATCH_SIZE]))
            for start in range(0, len(patches), BATCH_SIZE)
        ]
        class_names = self._rule.class_names
        probabilities = np.concatenate([np.empty((0, len(class_names)), np.float32), *batches])
        scores = {
            f"{SCORE_PREFIX}{name}": column
            for name, column in zip(class_names, probabilities.T, strict=True)
        }
        return pd.DataFrame({**self._rule.columns(probabilities), **scores})


def _load_pyfunc(path: str, _model_config: object = None) -> ServedModel:
    """Load the model with the data folder `path`; MLflow calls this function by its name."""
    import mlflow.pytorch

    network = mlflow.pytorch._load_pyfunc(path, DEVICE)  # noqa: SLF001 MLflow's loader protocol
    return ServedModel(network, read_rule(Path(path)))
