"""The champion trained over its folds again with fresh seeds, and the ensemble of those nets."""

from __future__ import annotations

import io
import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from raysearch.champion.model_artifact import artifact_of
from raysearch.champion.registration import champion_net, champion_of
from raysearch.cli.selection_text import fresh_lines
from raysearch.config.space import describe, space_from
from raysearch.config.space_file import parse_space
from raysearch.data.patches import load_patches
from raysearch.errors import SpaceError, StudyError
from raysearch.models.classifier import Ensemble
from raysearch.search.engine import worker_tasks as worker
from raysearch.search.engine.repeat_runs import train_repeats
from raysearch.search.engine.session import ray_session
from raysearch.search.journal.history import History, Trial
from raysearch.search.journal.journal import Journal
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.fold_scores import out_of_fold_again
from raysearch.search.study.plan import load_plan, make_plan
from raysearch.search.study.repeats import FoldRepeat, Repetitions, missing_folds, repeats
from raysearch.search.study.study import Study, create_study
from raysearch.search.study.trial_data import train_config, training_data
from raysearch.search.tracking.log_batches import TrialLogBatches
from raysearch.selection.decision_rule import Options
from raysearch.training.checkpoint import unpack
from raysearch.training.fold_training import Judged
from raysearch.training.loop import FoldEpoch, train
from support.result_studies import new_study

HPARAMS: dict[str, Any] = {
    "folds": 2,
    "width": 4,
    "batch_size": 16,
    "preprocess": "reinhard",
    "tta": "dihedral",
}
TREE: dict[str, Any] = {"epochs": 1, "trials": 2, "space": {**HPARAMS, "learning_rate": 0.01}}


@pytest.fixture
def study(shards: Path, tmp_path: Path) -> Study:
    """A study with one trial, of which nothing was trained."""
    found = new_study(shards, tmp_path / "studies" / "again", TREE)
    found.start("t0000", "trial", {**HPARAMS, "learning_rate": 0.01})
    return found


def again(study: Study, seed: int, *folds: int) -> None:
    """Train `folds` of the trial with a fresh `seed`, as a worker does."""
    trial = study.history.trials["t0000"]
    told = (study.folder.address, study.plan.data, trial.id, trial.hparams, seed, 2, 0, 1.0)
    for fold in folds:
        worker.fold_job(worker.Job(*told), fold, keep_net=True)


def test_fresh_seeds_are_the_trials_and_never_its_own() -> None:
    trial = Trial("t0003", "trial", {}, 5, 2)
    seeds = repeats(7, trial, 4)
    assert len({5, *seeds}) == 5
    assert repeats(7, trial, 2) == seeds[:2]
    assert not {*repeats(8, trial, 4), *repeats(7, Trial("t1", "trial", {}, 5, 2), 4)} & {*seeds}
    unlucky = Trial("t0003", "trial", {}, seeds[1], 2)
    assert repeats(7, unlucky, 3) == [seeds[0], *seeds[2:]]


def test_a_fold_trained_alone_is_that_fold_of_a_whole_training_with_its_seed(study: Study) -> None:
    trial, whole = study.history.trials["t0000"], list[tuple[int, Judged]]()

    def take(done: FoldEpoch, judged: Judged, _state: object) -> None:
        whole.append((done.epoch, judged))

    again(study, 11, 0, 1)
    data = training_data(study.folder.address, study.plan.data, "cpu", 2, 1.0)
    config = train_config(study.plan, trial.hparams, 11, torch.device("cpu"))
    train(config, data, take)
    for fold, (epoch, judged) in enumerate(whole):
        raw = study.folder.read(study.folder.again_scores("t0000", 11, fold))
        table = pq.read_table(io.BytesIO(raw))
        assert set(table["fold"].to_pylist()) == {fold}
        assert set(table["epoch"].to_pylist()) == {epoch}
        assert np.array_equal(table["patch"].to_numpy(), judged.rows)
        logits = [table[f"logit_{name}"].to_numpy() for name in study.plan.class_names]
        assert np.array_equal(np.column_stack(logits), judged.logits)


def test_what_is_whole_is_not_trained_again(study: Study) -> None:
    trial, folder = study.history.trials["t0000"], study.folder

    def missing() -> list[int]:
        return [one.fold for one in missing_folds(folder, study.plan, trial, [11], nets=True)]

    assert missing() == [0, 1]
    again(study, 11, 1)
    assert missing() == [0]
    again(study, 11, 0)
    assert missing() == []
    assert missing_folds(folder, study.plan, trial, [12], nets=True)[0] == FoldRepeat(12, 0)
    rows = out_of_fold_again(folder, study.plan, "t0000", 11, range(2))
    assert rows is not None
    assert sorted(rows.rows) == list(range(240))
    net = folder.again_net("t0000", 11, 0)
    content = folder.read(net)
    folder.write(net, content[:-1] + bytes([content[-1] ^ 1]))
    assert missing() == [0]
    assert missing_folds(folder, study.plan, trial, [11], nets=False) == []
    folder.write(net, content)
    folder.remove(folder.again_scores("t0000", 11, 1))
    assert missing() == [1]


def test_a_lost_fold_is_begun_again_first_and_a_failed_seed_is_left() -> None:
    folds = [FoldRepeat(seed, fold) for seed in (1, 2) for fold in (0, 1)]
    ahead = Repetitions(folds)
    assert ahead.next() == folds[0]
    assert ahead.lost(folds[0]) == 1
    assert ahead.next() == folds[0]
    assert ahead.lost(folds[0]) == 2
    ahead.failed(1)
    assert ahead.waiting == 2
    assert [ahead.next() for _ in range(3)] == [*folds[2:], None]


def test_a_seed_that_failed_is_known_from_the_journal(study: Study) -> None:
    trial = study.history.trials["t0000"]
    study.record_repeat_failure(trial, 11, "nan-loss")
    train_repeats(study, trial, [11], nets=False)  # without Ray: there is nothing to do
    events = Journal(study.folder / study.folder.JOURNAL).events
    assert History(events).repeat_failures == {("t0000", 11): "nan-loss"}


def test_the_ensemble_is_the_mean_of_its_members_each_with_its_own_statistics(
    study: Study,
) -> None:
    again(study, 11, 0, 1)
    trial, plan, folder = study.history.trials["t0000"], study.plan, study.folder
    study.crown(trial, {"kind": "ensemble", "seed": 11, "temperature": 2.0})
    recipe, model = champion_of(folder, plan, study.history)
    assert isinstance(model, Ensemble)
    assert recipe.members == 2
    stored = [unpack(folder.read(folder.again_net("t0000", 11, fold))) for fold in (0, 1)]
    fitted = [one["preprocessing"] for one in stored]
    assert any(not torch.equal(fitted[0][name], fitted[1][name]) for name in fitted[0])
    members = [recipe.trained([one]) for one in stored]
    patches = torch.from_numpy(np.array(load_patches(plan.data).pixels[:5])).view(5, *plan.shape)
    with torch.inference_mode():
        said = [member(patches) for member in members]
        found = model(patches)
        assert not torch.allclose(said[0], said[1], atol=1e-3)
        assert torch.allclose(found, (said[0] + said[1]) / 2, atol=1e-7)
        # A member gives its own fold's patients what was judged out of fold.
        rows = out_of_fold_again(folder, plan, "t0000", 11, [0])
        assert rows is not None
        judged = torch.from_numpy(np.array(load_patches(plan.data).pixels[rows.rows]))
        plain = artifact_of(plan, trial, {}).trained(stored[:1])
        own = plain(judged.view(-1, *plan.shape)).numpy()
    assert np.abs(own - rows.probabilities).max() < 1e-5
    with pytest.raises(StudyError, match="is an ensemble, not one net; `raysearch select again"):
        champion_net(folder, plan, study.history)


def test_an_exported_ensemble_takes_any_batch(study: Study) -> None:
    again(study, 11, 0, 1)
    trial, plan = study.history.trials["t0000"], study.plan
    study.crown(trial, {"kind": "ensemble", "seed": 11})
    _recipe, model = champion_of(study.folder, plan, study.history)
    patches = torch.randint(0, 256, (5, *plan.shape), dtype=torch.uint8)
    batch = torch.export.Dim("batch", min=1, max=4096)
    exported = torch.export.export(model, (patches[:2],), dynamic_shapes=({0: batch},)).module()
    with torch.inference_mode():
        assert torch.allclose(exported(patches), model(patches), atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"repeats": 21}, "repeats: 21 is outside 0 to 20"),
        ({"repeats": True}, "repeats: True is not a whole number"),
        ({"champion": "best"}, "champion: 'best' is unknown: one of refit, ensemble"),
        (
            {"champion": "ensemble", "repeats": 0},
            "champion: an ensemble is of a fresh seed's nets; give repeats 1 or more",
        ),
    ],
)
def test_what_cannot_be_a_champion_is_rejected(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(SpaceError) as rejected:
        parse_space({**TREE, **settings}, "x")
    assert said in str(rejected.value)
    assert "1 error:" in str(rejected.value)


def test_a_space_says_how_its_champion_is_made_and_an_older_one_is_read(shards: Path) -> None:
    asked = parse_space({**TREE, "repeats": 3, "champion": "ensemble"}, "x")
    assert space_from(json.loads(json.dumps(describe(asked)))) == asked
    plain = parse_space(TREE, "x")
    assert (plain.repeats, plain.champion) == (1, "refit")
    assert asked.flat() != plain.flat()
    older = describe(plain)
    del older["repeats"], older["champion"]
    assert space_from(json.loads(json.dumps(older))) == plain
    plan = make_plan(asked, "x", str(shards))[0]
    assert load_plan(plan.dump()) == plan
    assert plan.repeat_fold_epochs == 3 * 2 * 1
    assert make_plan(plain, "x", str(shards))[0].max_fold_epochs == plan.max_fold_epochs + 1
    assert Options.of({}, asked) == Options(repeats=3, kind="ensemble")
    assert Options.of({"kind": "refit", "repeats": 0}, asked) == Options(repeats=0)


def test_what_fresh_seeds_say_is_told(study: Study) -> None:
    def told(*values: float | None, kind: str = "refit") -> list[str]:
        fresh = [
            {"seed": 1, "objective": None, "failure": "nan-loss"}
            if value is None
            else {"seed": 1, "objective": {"low": 0.9, "value": value, "high": 0.95}, "failure": ""}
            for value in values
        ]
        before = {"low": 0.91, "value": 0.9347, "high": 0.95}
        end = {"champion": "t0000", "kind": kind, "objective": before, "fresh": fresh}
        return fresh_lines(study.plan, study.history, end)

    assert told() == []
    assert told(0.9312) == [
        "Fresh     auroc 0.9312 (0.9000 to 0.9500) with another seed, 0.9347 when it was chosen"
    ]
    assert told(0.92, None, 0.94, kind="ensemble") == [
        "Fresh     auroc 0.9300 (0.9200 to 0.9400) with 2 other seeds, 0.9347 when it was chosen;"
        " the training failed with 1 of 3 (nan-loss)",
        "Ensemble  the mean of 2 nets, one a fold of that training",
    ]
    assert told(None) == ["Fresh     the training failed with 1 of 1 (nan-loss)"]


def test_mlflow_is_told_each_fresh_objective_once(study: Study) -> None:
    study.crown(study.history.trials["t0000"], {"kind": "refit"}, [0.9, 0.8])
    piece = TrialLogBatches(1).of(study.journal.events[-1])
    points = [(one.key, one.value, one.step) for one in piece.points]
    assert points == [("objective_fresh", 0.9, 1), ("objective_fresh", 0.8, 2)]
    assert piece.tags == {"champion": "t0000"}
    older = {"event": "champion", "at": 1.0, "trial": "t0000"}
    assert TrialLogBatches(1).of(older).points == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_folds_are_trained_again_though_a_worker_is_lost_and_a_seed_fails(
    cluster: str, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", cluster)
    plan, splits = make_plan(parse_space(TREE, "x"), "x", str(shards))
    study = create_study(StudyFolder(tmp_path / "x"), plan, splits)
    good = study.start("t0000", "trial", {**HPARAMS, "learning_rate": 0.01})
    wild = study.start("t0001", "trial", {**HPARAMS, "learning_rate": 1e30})
    lost, heard = threading.Thread(target=lose_a_worker, daemon=True), list[tuple[int, int]]()
    with ray_session():
        lost.start()
        train_repeats(study, good, [11], lambda done, every: heard.append((done, every)), nets=True)
        train_repeats(study, wild, [12], nets=True)
    assert heard == [(0, 2), (1, 2)]
    lost.join(1.0)
    assert not lost.is_alive()
    assert missing_folds(study.folder, plan, good, [11], nets=True) == []
    failed = {
        (one["trial"], one["seed"]) for one in study.journal.events if one["event"] == "again"
    }
    assert failed == {("t0001", 12)} == study.history.repeat_failures.keys()


def lose_a_worker() -> None:
    """Kill the first process that trains a fold again."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            if b"ray::_Runner.run" in content(path) and is_ours(path.parent):
                os.kill(int(path.parent.name), signal.SIGKILL)
                return
        time.sleep(0.05)


def content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def is_ours(process: Path) -> bool:
    """Whether `process` is of this test's own cluster, and of no other's on the machine."""
    return os.environ["RAYSEARCH_CACHE"].encode() in content(process / "environ")
