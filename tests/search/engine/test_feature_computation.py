"""The features of a study are computed before its search, by all workers, and only once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from raysearch.config.hyperparameter_spec import Value
from raysearch.config.space import Hyperparameter
from raysearch.config.space_file import parse_space
from raysearch.data.step_progress import StepProgress
from raysearch.search.engine import feature_computation
from raysearch.search.engine.feature_computation import (
    FeaturePart,
    compute_features,
    compute_stored_features,
    remove_shared_features,
)
from raysearch.search.engine.ray_session import ray_session
from raysearch.search.engine.worker_messages import TrialTask
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.sampling.sampled_configurations import feature_kinds
from raysearch.search.study.architecture_checks import check_architectures
from raysearch.search.study.plan_creation import make_plan
from raysearch.search.study.study import Study, create_study
from raysearch.training.features.extraction import Extractor
from raysearch.training.training_data import TrainingData
from support.champion_studies import train_in_this_process
from support.frozen_networks import pretrained_file
from support.recorded_extractions import record_extractions
from support.result_studies import next_searched

NUM_PATCHES = 240


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory, data: TrainingData) -> Path:
    """The file of the weights of a small network."""
    return pretrained_file(tmp_path_factory.mktemp("weights"), data)


@pytest.fixture
def study(shards: Path, tmp_path: Path, weights: Path) -> Study:
    """A study that searches classifiers of two kinds of features."""
    hparams: dict[str, object] = {
        "folds": 2,
        "architecture": "cnn",
        "width": 4,
        "convolutions": 1,
        "weights": str(weights),
        "augment": "none",
        "adaptation": "frozen",
        "features": {"choice": ["last", "multi"]},
        "classifier": {"choice": ["logistic_regression", "nearest_centroid"]},
    }
    tree = {"epochs": 1, "trials": 3, "stopping": {"rule": "none"}, "space": hparams}
    space = parse_space(tree, "x")
    plan, splits = make_plan(space, "heads", str(shards))
    plan = replace(plan, weights=check_architectures(space, plan.shape))
    study = create_study(StudyFolder(tmp_path / "studies" / "heads"), plan, splits)
    study.begin()
    return study


def test_a_kind_of_features_is_what_several_classifiers_share(study: Study) -> None:
    kinds = feature_kinds(study.plan.space)
    assert sorted(str(kind["features"]) for kind in kinds) == ["last", "multi"]
    full = parse_space({"epochs": 1, "space": {"folds": 2, "width": {"choice": [4, 8]}}}, "x")
    assert feature_kinds(full) == []


def test_each_augmentation_of_frozen_features_is_a_kind(study: Study) -> None:
    fixed = [hparam for hparam in study.plan.space.hparams if hparam.name != "features"]
    augmented = [
        Hyperparameter("augmented_views", "choice", (0, 2)),
        Hyperparameter("color_jitter", "choice", (0.1, 0.2), when=(("augmented_views", (2,)),)),
    ]
    space = replace(study.plan.space, hparams=(*fixed, *augmented))
    kinds = {(kind["augmented_views"], kind.get("color_jitter")) for kind in feature_kinds(space)}
    assert kinds == {(0, None), (2, 0.1), (2, 0.2)}
    assert len(feature_kinds(space)) == 3


def test_a_trial_reads_the_features_that_were_computed_for_it(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert compute_stored_features(tasks_of(study), "key", FeaturePart(0, 1, "")) == []

    def fail(*_arguments: int) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(Extractor, "compute", fail)
    compute_features(study)  # without Ray, as nothing is computed
    trial = next_searched(study)
    train_in_this_process(study, trial)
    assert study.history.trials[trial.id].status == "finished"


def test_a_machine_fetches_the_features_of_all_kinds(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = f"{study.folder.address}/{study.folder.FEATURES}"
    monkeypatch.setenv("RAYSEARCH_CACHE", str(tmp_path / "first"))
    compute_stored_features(tasks_of(study), "key", FeaturePart(0, 2, shared))
    computed = record_extractions(monkeypatch)
    monkeypatch.setenv("RAYSEARCH_CACHE", str(tmp_path / "second"))
    compute_stored_features(tasks_of(study), "key", FeaturePart(1, 2, shared))
    assert computed == [(0, 1)] * 2  # of each kind, the row that tells the size of a chunk
    remove_shared_features(study)
    assert not study.folder.exists(study.folder.FEATURES)


def tasks_of(study: Study) -> list[TrialTask]:
    """The tasks of all kinds of features."""
    kinds = feature_kinds(study.plan.space)
    return [feature_computation._task(study, kind, 1.0) for kind in kinds]


def test_more_kinds_than_a_few_are_computed_by_the_trials(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds: list[dict[str, Value]] = [{"input_size": size, "weights": "none"} for size in range(99)]
    monkeypatch.setattr(feature_computation, "feature_kinds", lambda _space: kinds)
    monkeypatch.setattr(feature_computation, "_are_stored", lambda _study, _kind: False)
    progress: list[StepProgress] = []
    compute_features(study, progress.append)  # without Ray, as nothing is computed
    assert progress == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_all_workers_compute_the_features_before_the_search(
    cluster: str, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", cluster)
    progress: list[StepProgress] = []
    with ray_session():
        compute_features(study, progress.append)
    assert study.folder.names(study.folder.FEATURES)
    assert {(each.step, each.total) for each in progress} == {
        ("computing features of cnn", 2 * NUM_PATCHES)
    }
    done = [each.done for each in progress]
    assert done == sorted(done)
    monkeypatch.setattr(feature_computation, "cluster_address", lambda: None)
    compute_features(study)  # without Ray, as nothing is computed
