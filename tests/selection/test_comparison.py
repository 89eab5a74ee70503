"""Whether a hyperparameter matters, told by pairs of trials that are equal in all else."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from raysearch.cli import run
from raysearch.config.space_file import parse_space
from raysearch.errors import StudyError
from raysearch.metrics.bootstrap import patient_weights
from raysearch.metrics.classification import score
from raysearch.search.journal.history import Trial
from raysearch.search.study.fold_scores import out_of_fold, scores_file
from raysearch.search.study.study import Study
from raysearch.search.study.trial_data import train_config, training_data
from raysearch.selection import comparison
from raysearch.selection.comparison import compare, pairs_of
from raysearch.training.fold_training import Judged, State
from raysearch.training.loop import FoldEpoch, train
from raysearch.training.training_data import TrainingData
from support.result_studies import new_study, next_searched, report

TREE: dict[str, Any] = {
    "epochs": 1,
    "trials": 9,
    "seed": 1,
    "sampler": "grid",
    "stopping": {"rule": "none"},
    "space": {
        "folds": 2,
        "convolutions": 1,
        "width": 4,
        "learning_rate": {"choice": [0.001, 0.01]},
        "preprocess": {"choice": ["none", "sharpen"]},
    },
}
NAMES = ("negative", "positive")


def trained(study: Study, trial: Trial, data: TrainingData) -> None:
    """Train `trial` as its worker would, but for Ray."""

    def reported(done: FoldEpoch, judged: Judged, _state: Callable[[], State]) -> None:
        scores = scores_file(done, judged, data)
        study.folder.write(study.folder.scores(trial.id, done.epoch), scores)
        study.report(trial.id, {**dataclasses.asdict(done), "host": "here"})

    train(train_config(study.plan, trial.hparams, trial.seed, torch.device("cpu")), data, reported)


@pytest.fixture(scope="module")
def studied(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A grid of four trials, trained."""
    torch.set_num_threads(1)
    place = tmp_path_factory.mktemp("compared") / "studies" / "seen"
    study = new_study(shards, place, TREE)
    data = training_data(study.folder.address, str(shards), "cpu", 2, 1.0)
    for _ in range(4):
        trained(study, next_searched(study), data)
    return study


def test_a_grid_has_every_value_beside_every_other(studied: Study) -> None:
    trials = studied.history.done()
    found = pairs_of(studied.plan.space, trials, "preprocess")
    assert list(found) == [("none", "sharpen")]
    for one, other in found["none", "sharpen"]:
        assert one.hparams["learning_rate"] == other.hparams["learning_rate"]
    assert len(found["none", "sharpen"]) == 2
    assert list(pairs_of(studied.plan.space, trials, "learning_rate")) == [(0.001, 0.01)]


def test_the_difference_is_that_of_the_pooled_scores_and_its_interval_draws_whole_patients(
    studied: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "DRAWS", 60)
    (found,) = compare(studied.folder, studied.plan, studied.history, "preprocess")
    pairs = pairs_of(studied.plan.space, studied.history.done(), "preprocess")["none", "sharpen"]

    def auroc(trial: Trial, weights: NDArray[np.float64]) -> float:
        rows = out_of_fold(studied.folder, studied.plan, trial.id, trial.folds)
        owner = np.unique(rows.patients, return_inverse=True)[1]
        drawn = np.repeat(np.arange(len(owner)), weights[owner].astype(int))
        value = score(rows.labels[drawn], rows.probabilities[drawn], NAMES)["auroc"]
        return np.nan if value is None else value

    def apart(weights: NDArray[np.float64]) -> list[float]:
        return [auroc(other, weights) - auroc(one, weights) for one, other in pairs]

    alone = apart(np.ones(12))
    assert found.difference.value == pytest.approx(np.mean(alone), abs=1e-12)
    assert (found.lowest, found.highest) == pytest.approx((min(alone), max(alone)), abs=1e-12)
    drawn = [float(np.mean(apart(one))) for one in patient_weights(12, 60, 1)]
    ends = np.nanquantile(drawn, (0.025, 0.975))
    assert (found.difference.low, found.difference.high) == pytest.approx(ends, abs=1e-12)
    assert (found.pairs, found.trials, found.patients) == (2, 4, 12)
    means = np.mean([[auroc(one, np.ones(12)) for one in pair] for pair in pairs], axis=0)
    assert found.values == pytest.approx(tuple(means), abs=1e-12)


def with_scores(
    shards: Path,
    place: Path,
    wrong: Mapping[str, tuple[int, ...]],
    metric: str = "accuracy",
    patients: int = 4,
) -> Study:
    """A study of two trials; `wrong` are the patients of whom each value has no patch right."""
    space = {**TREE["space"], "learning_rate": 0.001}
    study = new_study(shards, place, {**TREE, "space": space, "objective": {"metric": metric}})
    data = training_data(study.folder.address, str(shards), "cpu", 2, 1.0)
    rows = np.arange(2 * patients, dtype=np.int64)
    labels = torch.from_numpy(rows % 2)
    names = np.array([f"p{one // 2}" for one in rows])
    data = dataclasses.replace(data, labels=labels, patients=names)
    for _ in range(2):
        trial = next_searched(study)
        lost = wrong[str(trial.hparams["preprocess"])]
        sign = np.where(np.isin(rows // 2, lost), -3.0, 3.0) * (2 * (rows % 2) - 1)
        logits = np.column_stack([-sign, sign]).astype(np.float32)
        for epoch, half in ((1, rows[:patients]), (2, rows[patients:])):
            done = FoldEpoch(epoch, epoch - 1, 0.5, 1.0, {}, 0.1)
            table = scores_file(done, Judged(half, logits[half]), data)
            study.folder.write(study.folder.scores(trial.id, epoch), table)
            told = {**report(epoch, 0.5), "fold": epoch - 1, "metrics": {metric: 0.5}}
            study.report(trial.id, told)
    return study


@pytest.mark.parametrize(
    ("none", "sharpen", "metric", "values", "interval", "better"),
    [
        ((0, 1, 2, 3), (), "accuracy", (0.0, 1.0), (1.0, 1.0, 1.0), "sharpen"),
        ((), (0, 1, 2, 3), "accuracy", (1.0, 0.0), (-1.0, -1.0, -1.0), "none"),
        ((0,), (0,), "accuracy", (0.75, 0.75), (0.0, 0.0, 0.0), None),
        # One patient of four: it is drawn no time in (3/4)^4 = 32 % of the draws, 3 times in 5 %.
        ((0,), (), "accuracy", (0.75, 1.0), (0.0, 0.25, 0.75), None),
        # Less is better: log(1 + exp(-6)) = .0025 for logits 6 apart, the wrong way 6 more.
        ((0, 1, 2, 3), (), "log_loss", (6.0025, 0.0025), (-6.0, -6.0, -6.0), "sharpen"),
    ],
)
def test_cases_reckoned_by_hand(
    shards: Path,
    tmp_path: Path,
    none: tuple[int, ...],
    sharpen: tuple[int, ...],
    metric: str,
    values: tuple[float, float],
    interval: tuple[float, float, float],
    better: str | None,
) -> None:
    study = with_scores(shards, tmp_path / "x", {"none": none, "sharpen": sharpen}, metric)
    (found,) = compare(study.folder, study.plan, study.history, "preprocess")
    apart = found.difference
    assert (apart.low, apart.value, apart.high) == pytest.approx(interval, abs=1e-6)
    assert found.values == pytest.approx(values, abs=1e-4)
    assert found.better == better


def test_one_patient_has_no_interval(shards: Path, tmp_path: Path) -> None:
    study = with_scores(shards, tmp_path / "x", {"none": (0,), "sharpen": ()}, patients=1)
    (found,) = compare(study.folder, study.plan, study.history, "preprocess")
    assert (found.difference.low, found.difference.value, found.better) == (None, 1.0, None)


def trial_of(number: int, **hparams: Any) -> Trial:
    return Trial(f"t{number:04d}", "trial", hparams, number, 2)


def test_hyperparameters_that_hang_on_the_compared_one_are_part_of_its_values() -> None:
    tree = {
        "space": {
            "optimizer": {"choice": ["adamw", "sgd", "rmsprop"]},
            "momentum": {"uniform": [0.0, 0.9], "when": {"optimizer": ["sgd", "rmsprop"]}},
            "width": {"choice": [4, 8]},
        }
    }
    trials = [
        trial_of(0, optimizer="adamw", width=4),
        trial_of(1, optimizer="sgd", width=4, momentum=0.5),
        trial_of(2, optimizer="rmsprop", width=4, momentum=0.5),
        trial_of(3, optimizer="rmsprop", width=4, momentum=0.6),
        trial_of(4, optimizer="adamw", width=8),
    ]
    space = parse_space(tree, "x")
    found = {
        values: [(one.id, other.id) for one, other in pairs]
        for values, pairs in pairs_of(space, trials, "optimizer").items()
    }
    assert found == {
        ("adamw", "sgd"): [("t0000", "t0001")],
        ("adamw", "rmsprop"): [("t0000", "t0002"), ("t0000", "t0003")],
        ("sgd", "rmsprop"): [("t0001", "t0002")],
    }
    assert list(pairs_of(space, trials, "width")) == [(4, 8)]
    assert list(pairs_of(space, trials, "momentum")) == [(0.5, 0.6)]


def test_what_cannot_be_compared_is_told_in_one_line(shards: Path, tmp_path: Path) -> None:
    study = with_scores(shards, tmp_path / "x", {"none": (0,), "sharpen": ()})

    def rejection(hyperparameter: str, study: Study = study) -> str:
        with pytest.raises(StudyError) as caught:
            compare(study.folder, study.plan, study.history, hyperparameter)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "'x' does not search it; it searches preprocess" in rejection("width")
    assert "does not search it" in rejection("bogus")
    begun = new_study(shards, tmp_path / "y", TREE)
    said = rejection("preprocess", begun)
    assert "no two of the 0 finished trials of 'y' differ in it alone" in said
    assert "`sampler: grid`" in said
    name = study.folder.scores("t0001", 2)
    study.folder.write(name, study.folder.read(name)[:-9])
    assert "t0001: missing or damaged" in rejection("preprocess")
    study.folder.remove(name)
    assert "t0001: missing or damaged" in rejection("preprocess")


def test_the_command_prints_a_table_or_json(
    studied: Study, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(Path(studied.folder.address).parents[1])
    assert run(["compare", "seen", "--hyperparameter", "preprocess"]) == 0
    out = capsys.readouterr().out
    for text in ("auroc by preprocess in seen", "none -> sharpen", "seed of their training"):
        assert text in out
    assert run(["compare", "--hyperparameter", "learning_rate", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["one"], found["other"], found["pairs"]) == (0.001, 0.01, 2)
    assert found["difference"]["low"] <= found["difference"]["value"]
    assert run(["compare", "seen", "--hyperparameter", "width"]) == 2
    assert "it searches learning_rate, preprocess" in capsys.readouterr().err
    assert run(["compare", "seen"]) == 2
    assert "--hyperparameter" in capsys.readouterr().err
