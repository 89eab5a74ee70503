"""The champion's pooled scores with each patch in its context, of shards that know the places."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from raysearch.data.patches import load_rows
from raysearch.data.shards.sharding import write_shards
from raysearch.search.journal.history import Trial
from raysearch.search.study.fold_scores import OutOfFold, out_of_fold, scores_file
from raysearch.search.study.study import Study
from raysearch.search.study.trial_data import training_data
from raysearch.selection.pooled_scores import (
    auroc_in_context,
    in_context,
    places_of,
    pooled_auroc,
)
from raysearch.training.fold_training import Judged
from raysearch.training.loop import FoldEpoch
from support.result_studies import new_study, next_searched, report

TREE: dict[str, Any] = {
    "epochs": 1,
    "trials": 1,
    "seed": 1,
    "sampler": "random",
    "stopping": {"rule": "none"},
    "space": {"folds": 2, "width": 4, "learning_rate": 0.001},
}
PATIENTS, SIDE = 10, 7


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of ten slides as IDC has them, the right half of each positive."""
    top = tmp_path_factory.mktemp("slides")
    for patient in range(PATIENTS):
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
def judged(slides: Path, tmp_path: Path) -> tuple[Study, Trial]:
    """A trial whose nets are often wrong, each patch by itself."""
    study = new_study(slides, tmp_path / "studies" / "near", TREE)
    trial = next_searched(study)
    data = training_data(study.folder.address, str(slides), "cpu", 2, 1.0)
    draw = np.random.default_rng(0)
    for fold in range(2):
        rows = data.folds[fold][1]
        margin = 2.0 * data.labels.numpy()[rows] - 1 + draw.normal(0, 2, len(rows))
        logits = np.column_stack([-margin / 2, margin / 2]).astype(np.float32)
        told = report(fold + 1, 0.7) | {"fold": fold}
        done = FoldEpoch(fold + 1, fold, 0.7, 1.0, {"auroc": 0.7}, 0.5, 8)
        scores = scores_file(done, Judged(rows, logits, None), data)
        study.folder.write(study.folder.scores(trial.id, fold + 1), scores)
        study.report(trial.id, told)
    return study, trial


def scores_of(judged: tuple[Study, Trial]) -> OutOfFold:
    study, trial = judged
    return out_of_fold(study.folder, study.plan, trial.id, trial.folds)


def test_it_is_above_that_of_each_patch_alone_and_the_context_can_be_kept(
    judged: tuple[Study, Trial],
) -> None:
    found = scores_of(judged)
    alone, near = pooled_auroc(found), auroc_in_context(found, judged[0].plan)
    assert alone is not None
    assert near is not None
    assert alone.value is not None
    assert near.pooled.value is not None
    assert near.pooled.value > alone.value + 0.05
    places = places_of(load_rows(judged[0].plan.data, judged[0].plan.view), found)
    assert places is not None
    assert set(places.xs.round(2)) == {round(one + 0.02, 2) for one in range(SIDE)}
    kept = near.context(found.probabilities, places)[:, 1]
    assert roc_auc_score(found.labels, kept) > alone.value + 0.05
    assert json.loads(str(near.context))["weight"] == near.context.weight


def test_a_folds_labels_do_not_reach_its_own_scores(judged: tuple[Study, Trial]) -> None:
    found = scores_of(judged)
    places = places_of(load_rows(judged[0].plan.data, judged[0].plan.view), found)
    assert places is not None
    other = np.where(found.folds == 0, 1 - found.labels, found.labels)
    before, _context = in_context(found, places)
    after, _context = in_context(dataclasses.replace(found, labels=other), places)
    assert np.array_equal(before[found.folds == 0], after[found.folds == 0])
    assert not np.array_equal(before[found.folds == 1], after[found.folds == 1])


def test_without_places_there_is_none(judged: tuple[Study, Trial], slides: Path) -> None:
    rows = load_rows(str(slides))
    found = scores_of(judged)
    assert places_of(rows, found) is not None
    assert places_of(dataclasses.replace(rows, xs=np.full(len(rows.xs), np.nan)), found) is None
    apart = np.arange(len(rows.xs)).astype(np.str_)
    assert places_of(dataclasses.replace(rows, slides=apart), found) is None
