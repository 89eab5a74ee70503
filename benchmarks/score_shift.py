"""False alarms and detections of the note that scores are unlike those of the training set.

A classifier of color statistics is fitted on half of the patients of an IDC sample, with calibrated
out-of-fold scores as a study has them. Its scores on patients of the other half should give no
note; those on changed stains and on other data sets should give one.

    python benchmarks/score_shift.py IDC_SHARDS OTHER_SHARDS ...    # all of 50x50 pixels
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from raysearch.data.shards.patches import Patches, load_patches
from raysearch.metrics.calibration import apply_temperature, fit_temperature
from raysearch.metrics.score_shift import PatientScores, calibration_shift, score_shift

Floats = NDArray[np.float64]
NUM_SPLITS, NUM_DRAWS = 8, 5
DRAWN_PATIENTS = (5, 10, 30, 60)
NUM_CHANGED = 30
NAMES = ("negative", "positive")
CLASSIFIERS: dict[str, Callable[[], Any]] = {
    "logistic": lambda: make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)),
    "boosting": lambda: HistGradientBoostingClassifier(max_iter=60),
}
# Factors of red, green and blue: a weaker and a stronger change of the stain.
STAINS = {"stain 5 %": (1.0, 0.95, 1.0), "stain 15 %": (0.95, 0.85, 1.0)}


@dataclass(frozen=True)
class Rows:
    """Features (N, 15), patients (N,) and labels (N,)."""

    features: Floats
    patients: NDArray[np.str_]
    labels: NDArray[np.int64]

    def of(self, names: NDArray[np.str_]) -> Rows:
        kept = np.isin(self.patients, names)
        return Rows(self.features[kept], self.patients[kept], self.labels[kept])


@dataclass(frozen=True)
class Result:
    """Whether each note is given, and the figures of the first one."""

    shift: bool
    calibration: bool
    distance: float
    p_value: float


class Champion:
    """A classifier that is fitted on `rows`, and its calibrated out-of-fold scores."""

    def __init__(self, build: Callable[[], Any], rows: Rows) -> None:
        x, y, groups = rows.features, rows.labels, rows.patients
        scores = cross_val_predict(
            build(), x, y, groups=groups, cv=GroupKFold(5), method="predict_proba"
        )
        self.temperature = fit_temperature(y, scores)
        self.reference = PatientScores(apply_temperature(scores, self.temperature), groups, y)
        self.model = build().fit(x, y)

    def check(self, rows: Rows) -> Result:
        scores = apply_temperature(self.model.predict_proba(rows.features), self.temperature)
        new = PatientScores(scores, rows.patients, rows.labels)
        shift = score_shift(self.reference, new, NAMES)
        calibration = calibration_shift(self.reference, new)
        return Result(shift.is_notable, calibration.is_notable, shift.distance, shift.p_value)


def rows_of(patches: Patches, gain: tuple[float, ...] = (1.0, 1.0, 1.0)) -> Rows:
    """Mean, deviation and three quantiles of each channel, after factors of the channels."""
    pixels = patches.pixels.reshape(len(patches.labels), -1, 3)
    values = np.minimum(pixels * np.array(gain), 255).astype(np.float32)
    quantiles = np.quantile(values[:, ::7], (0.1, 0.5, 0.9), axis=1)
    columns = np.concatenate([values.mean(axis=1), values.std(axis=1), *quantiles], axis=1)
    return Rows(columns.astype(np.float64), patches.patients, patches.labels)


def checks(
    split: int, sets: dict[str, Rows], others: dict[str, Rows]
) -> Iterator[tuple[str, Result]]:
    """Yield each check of a random split of the patients."""
    generator = np.random.default_rng(split)
    patients = generator.permutation(np.unique(sets["same source"].patients))
    training, rest = np.array_split(patients, 2)
    for name, build in CLASSIFIERS.items():
        champion = Champion(build, sets["same source"].of(training))
        for size in DRAWN_PATIENTS:
            for _draw in range(NUM_DRAWS):
                drawn = generator.choice(rest, size, replace=False)
                for key, rows in sets.items():
                    if key == "same source" or size == NUM_CHANGED:
                        yield f"{name}: {key}, {size} patients", champion.check(rows.of(drawn))
        for key, rows in others.items():
            yield f"{name}: {key}", champion.check(rows)


def main(idc: str, *others: str) -> None:
    """Print one line for each classifier and set, and all of them as JSON at the end."""
    patches = load_patches(idc)
    sets = {"same source": rows_of(patches)}
    sets |= {name: rows_of(patches, gain) for name, gain in STAINS.items()}
    other_sets = {Path(other).name: rows_of(load_patches(other)) for other in others}
    results: dict[str, list[Result]] = defaultdict(list)
    for split in range(NUM_SPLITS):
        for key, result in checks(split, sets, other_sets):
            results[key].append(result)
    table = {}
    for key, of_key in results.items():
        distances = [result.distance for result in of_key]
        figures: dict[str, np.floating[Any] | int] = {
            "runs": len(of_key),
            "shift": np.mean([result.shift for result in of_key]),
            "calibration": np.mean([result.calibration for result in of_key]),
            "p <= 0.01 alone": np.mean([result.p_value <= 0.01 for result in of_key]),
            "median distance": np.median(distances),
            "95 % distance": np.quantile(distances, 0.95),
        }
        table[key] = {name: round(float(value), 3) for name, value in figures.items()}
        print(key, table[key])
    print(json.dumps(table))


if __name__ == "__main__":
    main(*sys.argv[1:])
