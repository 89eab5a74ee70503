"""The best trial of each value of a hyperparameter, with its interval, difference and costs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from raysearch.cli import run
from raysearch.errors import StudyError
from raysearch.search.study.fold_scores import out_of_fold
from raysearch.search.study.study import Study
from raysearch.selection.best_of_values import best_of_values, value_of
from support.result_studies import new_study, next_searched
from support.scored_trials import record_noisy_trial

TREE: dict[str, Any] = {
    "epochs": 2,
    "trials": 4,
    "seed": 1,
    "sampler": "grid",
    "stopping": {"rule": "none"},
    "space": {
        "folds": 2,
        "width": {"choice": [4, 8]},
        "tta": {"choice": ["none", "dihedral"]},
        "batch_size": 32,
    },
}
# The noise of the scores, by the values of width and tta.
NOISE = {(4, "none"): 4.0, (4, "dihedral"): 2.0, (8, "none"): 1.0, (8, "dihedral"): 3.0}


@pytest.fixture(scope="module")
def study(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A grid of four trials with made-up scores."""
    place = tmp_path_factory.mktemp("best") / "studies" / "seen"
    study = new_study(shards, place, TREE)
    for _trial in range(4):
        trial = next_searched(study)
        noise = NOISE[int(trial.hparams["width"]), str(trial.hparams["tta"])]
        record_noisy_trial(study, trial, shards, noise)
    return study


def test_each_value_has_its_best_trial_and_the_difference_to_the_best(study: Study) -> None:
    rows = best_of_values(study.folder, study.plan, study.history, "width")
    assert [row.value for row in rows] == ["8", "4"]
    assert [row.num_finished for row in rows] == [2, 2]
    trials = {row.value: study.history.trials[row.trial] for row in rows}
    assert (trials["8"].hparams["tta"], trials["4"].hparams["tta"]) == ("none", "dihedral")
    values = {}
    for value, trial in trials.items():
        scores = out_of_fold(study.folder, study.plan, trial)
        values[value] = roc_auc_score(scores.labels, scores.probabilities[:, 1])
    assert rows[0].objective.value == pytest.approx(values["8"])
    assert rows[0].difference is None
    difference = rows[1].difference
    assert difference is not None
    assert difference.value == pytest.approx(values["4"] - values["8"])
    low, middle, high = difference.low, difference.value, difference.high
    assert low is not None
    assert middle is not None
    assert high is not None
    assert low <= middle <= high < 0
    reports = [report.seconds for report in trials["4"].reports]
    assert rows[1].trial_seconds == pytest.approx(sum(reports))
    assert rows[1].total_seconds == pytest.approx(2 * sum(reports))


def test_networks_without_pretrained_weights_are_a_value_of_their_own(study: Study) -> None:
    trial = study.history.done()[0]
    assert value_of(trial, "adaptation") == "from scratch"
    adapted = replace(trial, hparams={"architecture": "uni", "adaptation": "lora"})
    assert value_of(adapted, "adaptation") == "lora"
    assert value_of(trial, "batch_size") == "32"
    assert value_of(trial, "balanced_sampling") == "false"


def test_a_hyperparameter_with_one_value_is_not_compared(study: Study) -> None:
    with pytest.raises(StudyError, match="finished trials of 'seen' have one value of it"):
        best_of_values(study.folder, study.plan, study.history, "batch_size")


def test_the_command_prints_the_table(
    study: Study, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    words = ["compare", "seen", "--studies", study.folder.address.rpartition("/")[0], "--best"]
    assert run([*words, "--hyperparameter", "width"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "Best auroc by width in seen" in lines[0]
    assert any("│ 8" in line and "│        2 │" in line for line in lines)
    assert run([*words, "--hyperparameter", "width", "--json"]) == 0
    stored = json.loads(capsys.readouterr().out)
    assert [row["value"] for row in stored["best"]] == ["8", "4"]
    assert np.isfinite(stored["best"][1]["difference"]["low"])
    assert run([*words, "--hyperparameter", "batch_size"]) == 2
    assert "does not search it; it searches width, tta" in capsys.readouterr().err
