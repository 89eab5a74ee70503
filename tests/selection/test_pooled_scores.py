"""The AUROC of pooled out-of-fold scores, with and without neighbor smoothing."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from raysearch.data.shards.rows import load_rows
from raysearch.data.shards.sharding import write_shards
from raysearch.metrics.neighbor_smoothing import PatchPositions
from raysearch.search.journal.history import Trial
from raysearch.search.study.fold_scores import OutOfFold, out_of_fold
from raysearch.search.study.study import Study
from raysearch.search.study.trial_data import WORKER_CACHE
from raysearch.selection.pooled_scores import (
    neighbor_smoothed_auroc,
    patch_positions,
    pooled_auroc,
    smooth_out_of_fold,
)
from support.result_studies import fold_report, new_study, next_searched
from support.scored_trials import record_scores

TREE: dict[str, Any] = {
    "epochs": 1,
    "trials": 1,
    "seed": 1,
    "sampler": "random",
    "stopping": {"rule": "none"},
    "space": {"folds": 2, "width": 4, "learning_rate": 0.001},
}
NUM_PATIENTS, SIDE = 10, 7


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of ten slides in the layout of IDC; the right half of each is positive."""
    top = tmp_path_factory.mktemp("slides")
    for patient in range(NUM_PATIENTS):
        for x in range(SIDE):
            for y in range(SIDE):
                label = int(x > SIDE // 2)
                name = f"{patient}_idx5_x{50 * x + 1}_y{50 * y + 1}_class{label}.png"
                path = top / "images" / str(patient) / str(label) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (50, 50), (200, 8 * x + patient, 8 * y)).save(path)
    write_shards(str(top / "images"), top / "shards", "idc", workers=1)
    return top / "shards"


@pytest.fixture
def scored_trial(slides: Path, tmp_path: Path) -> tuple[Study, Trial]:
    """A trial whose networks are often wrong, independently for each patch."""
    study = new_study(slides, tmp_path / "studies" / "near", TREE)
    trial = next_searched(study)
    data = WORKER_CACHE.training_data(study.folder.address, str(slides), "cpu", 2, 1.0)
    generator = np.random.default_rng(0)
    for fold in range(2):
        rows = data.folds[fold][1]
        logits = 2.0 * data.labels.numpy()[rows] - 1 + generator.normal(0, 2, len(rows))
        report = fold_report(trial.id, fold + 1, 0.7, fold=fold)
        record_scores(study, data, report, rows, logits)
    return study, trial


def scores_of(scored_trial: tuple[Study, Trial]) -> OutOfFold:
    """Read the out-of-fold scores of the trial."""
    study, trial = scored_trial
    return out_of_fold(study.folder, study.plan, trial)


def positions_of(scored_trial: tuple[Study, Trial]) -> PatchPositions:
    """Return the positions of the trial's patches."""
    plan = scored_trial[0].plan
    positions = patch_positions(load_rows(plan.data, plan.view), scores_of(scored_trial))
    assert positions is not None
    return positions


def test_smoothing_improves_the_auroc_and_can_be_stored(scored_trial: tuple[Study, Trial]) -> None:
    scores = scores_of(scored_trial)
    pooled, smoothed = pooled_auroc(scores), neighbor_smoothed_auroc(scores, scored_trial[0].plan)
    assert pooled is not None
    assert smoothed is not None
    assert pooled.value is not None
    assert smoothed.auroc.value is not None
    assert smoothed.auroc.value > pooled.value + 0.05
    positions = positions_of(scored_trial)
    assert set(positions.xs.round(2)) == {round(column + 0.02, 2) for column in range(SIDE)}
    probabilities = smoothed.smoothing(scores.probabilities, positions)[:, 1]
    assert roc_auc_score(scores.labels, probabilities) > pooled.value + 0.05
    assert json.loads(str(smoothed.smoothing))["weight"] == smoothed.smoothing.weight


def test_the_labels_of_a_fold_do_not_affect_its_smoothed_scores(
    scored_trial: tuple[Study, Trial],
) -> None:
    scores, positions = scores_of(scored_trial), positions_of(scored_trial)
    labels = np.where(scores.folds == 0, 1 - scores.labels, scores.labels)
    changed = dataclasses.replace(scores, labels=labels)
    original_smoothed, _smoothing = smooth_out_of_fold(scores, positions)
    changed_smoothed, _smoothing = smooth_out_of_fold(changed, positions)
    first, second = scores.folds == 0, scores.folds == 1
    assert np.array_equal(original_smoothed[first], changed_smoothed[first])
    assert not np.array_equal(original_smoothed[second], changed_smoothed[second])


def test_unknown_positions_are_none(scored_trial: tuple[Study, Trial], slides: Path) -> None:
    rows, scores = load_rows(str(slides)), scores_of(scored_trial)
    assert patch_positions(rows, scores) is not None
    unknown = dataclasses.replace(rows, xs=np.full(len(rows.xs), np.nan))
    assert patch_positions(unknown, scores) is None
    one_patch_per_slide = np.arange(len(rows.xs)).astype(np.str_)
    assert patch_positions(dataclasses.replace(rows, slides=one_patch_per_slide), scores) is None


def test_positions_of_tiles_are_in_their_sides(scored_trial: tuple[Study, Trial]) -> None:
    plan, scores = scored_trial[0].plan, scores_of(scored_trial)
    rows = load_rows(plan.data, plan.view)
    positions = patch_positions(rows, scores)
    tiles = dataclasses.replace(
        rows, xs=1.88 * rows.xs, ys=1.88 * rows.ys, downsamples=np.full(len(rows.xs), 1.88)
    )
    of_tiles = patch_positions(tiles, scores)
    assert positions is not None
    assert of_tiles is not None
    assert np.allclose(of_tiles.xs, positions.xs)
    assert np.allclose(of_tiles.ys, positions.ys)
