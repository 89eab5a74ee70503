"""Classifiers on frozen features as a script makes them: the peer of benchmarks/frozen_search.py.

    .venv/bin/python benchmarks/plain_probe.py IMAGES WEIGHTS

IMAGES has a folder for each class; a file's name begins with its patient and `_`. WEIGHTS is
torchvision's file of MobileNetV2. Torchvision's `ImageFolder` and a `DataLoader` read the images at
96 pixels, the network gives the mean of its last features, scikit-learn's `LogisticRegressionCV`
selects its penalty with `GroupKFold`, and Optuna selects one over the same folds. Prints a JSON
object with the seconds and the AUROC of both, pooled out of fold.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import optuna
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader
from torchvision import models, transforms
from torchvision.datasets import ImageFolder

NUM_FOLDS, NUM_TRIALS, BATCH_SIZE, INPUT_SIZE = 3, 20, 64, 96
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PENALTIES = np.logspace(-5, -1, 5)
Values = NDArray[np.float32]
Labels = NDArray[np.int64]
Patients = NDArray[np.str_]


def image_features(images: Path, weights: Path) -> tuple[Values, Labels, Patients]:
    """Return the features of the images, their labels and their patients."""
    dataset = ImageFolder(
        str(images),
        transforms.Compose(
            [
                transforms.Resize((INPUT_SIZE, INPUT_SIZE)),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        ),
    )
    network = models.mobilenet_v2()
    network.load_state_dict(torch.load(weights, weights_only=True))
    network.eval()
    features, labels = [], []
    with torch.inference_mode():
        for batch, classes in DataLoader(dataset, batch_size=BATCH_SIZE):
            features.append(network.features(batch).mean(dim=(2, 3)).numpy())
            labels.append(classes.numpy())
    patients = [Path(name).name.split("_")[0] for name, _label in dataset.samples]
    return np.concatenate(features), np.concatenate(labels), np.array(patients)


def pooled_auroc(
    values: Values, labels: Labels, patients: Patients, inverse_penalty: float | None
) -> float:
    """Return the AUROC pooled out of fold; without a penalty, each fold selects its own."""
    scores = np.zeros(len(labels))
    for train, validation in GroupKFold(NUM_FOLDS).split(values, labels, patients):
        if inverse_penalty is None:
            inner = list(GroupKFold(NUM_FOLDS).split(train, labels[train], patients[train]))
            classifier = LogisticRegressionCV(
                Cs=PENALTIES,
                cv=inner,
                scoring="roc_auc",
                max_iter=500,
                l1_ratios=(0,),
                use_legacy_attributes=False,
            )
        else:
            classifier = LogisticRegression(C=inverse_penalty, max_iter=500)
        pipeline = make_pipeline(StandardScaler(), classifier)
        pipeline.fit(values[train], labels[train])
        scores[validation] = pipeline.decision_function(values[validation])
    return float(roc_auc_score(labels, scores))


def optuna_auroc(values: Values, labels: Labels, patients: Patients) -> float:
    """Return the best pooled AUROC of Optuna's trials over the penalty."""

    def objective(trial: optuna.Trial) -> float:
        penalty = trial.suggest_float("C", PENALTIES[0], PENALTIES[-1], log=True)
        return pooled_auroc(values, labels, patients, penalty)

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    study.optimize(objective, n_trials=NUM_TRIALS)
    return study.best_value


def main() -> None:
    images, weights = map(Path, sys.argv[1:])
    start = time.perf_counter()
    values, labels, patients = image_features(images, weights)
    extraction = time.perf_counter() - start
    selected = pooled_auroc(values, labels, patients, None)
    cross_validation = time.perf_counter() - start - extraction
    best = optuna_auroc(values, labels, patients)
    search = time.perf_counter() - start - extraction - cross_validation
    print(
        json.dumps(
            {
                "extraction_s": round(extraction, 1),
                "logistic_regression_cv_s": round(cross_validation, 1),
                "logistic_regression_cv_auroc": round(selected, 4),
                "optuna_s": round(search, 1),
                "optuna_auroc": round(best, 4),
            }
        )
    )


if __name__ == "__main__":
    main()
