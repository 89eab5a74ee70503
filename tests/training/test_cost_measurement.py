"""What a trial costs beside its time: counted, measured, and told wherever trials are compared."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn

from raysearch.analysis.search_figures import study_figures
from raysearch.cli import run
from raysearch.models import architectures
from raysearch.reports.search_page import figures_page
from raysearch.search.engine import reporter
from raysearch.search.engine import worker_tasks as worker
from raysearch.search.engine.tune_adapters import job_of
from raysearch.search.journal.history import History, Trial
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.journal.trial_costs import fixed_costs, running_costs
from raysearch.search.study.optuna_export import _attributes
from raysearch.search.study.study import Study
from raysearch.training import cost_measurement as costs
from raysearch.training import fold_training as fold_run
from raysearch.training.cost_measurement import forget_peak, net_costs, peak_memory
from raysearch.training.fold_training import FoldRun, Judged, State
from raysearch.training.loop import FoldEpoch, train
from raysearch.training.train_config import TrainConfig
from raysearch.training.training_data import AuxiliaryRows, TrainingData
from support.result_studies import new_study, next_searched, report

HPARAMS = {"width": 4, "convolutions": 1, "batch_size": 32, "learning_rate": 5e-3}
TREE: dict[str, Any] = {
    "epochs": 2,
    "trials": 1,
    "stopping": {"rule": "none"},
    "space": {"folds": 2, **HPARAMS},
}
FIXED = {"effective_batch_size": 32, "parameters": 1234, "flops": 5678}


def rows_of(side: int, classes: int = 2, count: int = 40) -> TrainingData:
    """`count` patches of one colour each; the first half of them learned and the other judged."""
    rows = np.arange(count, dtype=np.int64)
    half = count // 2
    colours = torch.arange(count, dtype=torch.uint8).view(-1, 1)
    return TrainingData(
        colours.expand(count, side * side * 3).contiguous(),
        torch.from_numpy(rows % 2),
        np.array([f"p{one}" for one in rows]),
        (side, side, 3),
        tuple(f"c{one}" for one in range(classes)),
        ((rows[:half], rows[half:]), (rows[half:], rows[:half])),
    )


def config(**hparams: Any) -> TrainConfig:
    return TrainConfig({**HPARAMS, **hparams}, epochs=2, metric="auroc", seed=5)


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("resnet18", torchvision.models.ResNet18_Weights.IMAGENET1K_V1),
        ("mobilenet_v2", torchvision.models.MobileNet_V2_Weights.IMAGENET1K_V1),
        ("vit_b_16", torchvision.models.ViT_B_16_Weights.IMAGENET1K_V1),
    ],
)
def test_parameters_and_flops_are_those_that_torchvision_publishes(name: str, weights: Any) -> None:
    data = rows_of(224, classes=1000, count=2)
    found = net_costs(TrainConfig({"architecture": name}, 1, "auroc", 0), data)
    assert found["parameters"] == weights.meta["num_params"]
    # It counts a product and its sum as one, in thousands of millions.
    assert found["flops"] == pytest.approx(2e9 * weights.meta["_ops"], rel=0.01)


@pytest.mark.parametrize("name", ["benchmark", "cnn", "p4m", "timm:tnt_s_legacy_patch16_224"])
def test_the_costs_of_a_net_are_of_one_patch_and_take_no_memory(name: str) -> None:
    data = rows_of(224 if name.startswith("timm:") else 50)
    way = replace(config(), hparams={"architecture": name})
    found = net_costs(way, data)
    assert found["flops"] > found["parameters"] > 0
    wide = net_costs(replace(way, hparams={**way.hparams, "batch_size": 2}), data)
    assert wide == {**found, "effective_batch_size": 2}


def test_a_net_is_counted_once_a_process_whatever_else_its_trials_differ_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    built: list[int] = []

    def build(name: str, shape: Any, classes: int, hparams: Any) -> nn.Module:
        built.append(int(hparams["width"]))
        return original(name, shape, classes, hparams)

    original = architectures.build
    monkeypatch.setattr(costs, "build", build)
    data = rows_of(31)
    first = net_costs(config(), data)
    assert net_costs(config(learning_rate=0.1, optimizer="sgd"), data) == first
    assert built == [4]
    assert net_costs(config(width=8), data)["parameters"] > first["parameters"]
    assert built == [4, 8]


def test_a_step_has_the_rows_of_all_its_micro_batches_but_no_more_than_there_are() -> None:
    data = rows_of(8)
    further = replace(data, further=(AuxiliaryRows(data.pixels[:7], data.labels[:7]),))
    for rows, way, wanted in (
        (data, config(batch_size=16), 16),
        (data, replace(config(batch_size=16), accumulate=4), 16),
        (data, config(batch_size=64), 20),
        (further, config(batch_size=64), 27),
        (further, config(batch_size=64, auxiliary_weight=0.0), 20),
    ):
        assert net_costs(way, rows)["effective_batch_size"] == wanted


@pytest.mark.parametrize("hparams", [{}, {"balanced_sampling": True}, {"mixup": 0.4}, {"ema": 0.9}])
@pytest.mark.parametrize("auxiliary", [0, 7])
def test_the_samples_of_a_fold_epoch_are_those_that_went_through_the_net(
    monkeypatch: pytest.MonkeyPatch, hparams: dict[str, Any], auxiliary: int
) -> None:
    data = rows_of(16)
    if auxiliary:
        some = AuxiliaryRows(data.pixels[:auxiliary], data.labels[:auxiliary])
        data = replace(data, further=(some,))
    learned: list[int] = []
    original = FoldRun.descend

    def descend(self: FoldRun, batch: Tensor, targets: Any) -> Tensor:
        learned.append(len(batch))
        return original(self, batch, targets)

    monkeypatch.setattr(FoldRun, "descend", descend)
    told: list[int | None] = []

    def take(done: FoldEpoch, _judged: Judged, _state: Callable[[], State]) -> None:
        told.append(done.samples)
        assert done.samples == sum(learned)
        learned.clear()

    train(config(batch_size=8, **hparams), data, take)
    assert told == [20 + auxiliary] * 4


@pytest.mark.parametrize("tta", ["none", "dihedral"])
def test_the_inference_time_is_of_one_view_whatever_judges(
    monkeypatch: pytest.MonkeyPatch, tta: str
) -> None:
    monkeypatch.setattr(fold_run, "JUDGED_AT_ONCE", 4)
    now = 0.0

    class Slow(nn.Module):
        """A net that takes two seconds a batch."""

        def forward(self, batch: Tensor) -> Tensor:
            nonlocal now
            now += 2.0
            return batch.mean(dim=(2, 3))[:, :2]

    monkeypatch.setattr("raysearch.training.fold_training.time.perf_counter", lambda: now)
    trained = FoldRun(config(tta=tta), rows_of(8), 0)
    trained.model = Slow()
    for averaged in (False, True):
        assert trained.judge(averaged).inference_ms == pytest.approx(2000 * 5 / 20)
    assert now == 2.0 * 5 * (2 if tta == "none" else 1 + 8)


def test_the_peak_of_memory_is_of_this_training_and_not_of_an_earlier_one() -> None:
    device = torch.device("cpu")
    if not (costs.PROCESS / "clear_refs").exists():
        pytest.skip("this system cannot let the peak begin anew")
    forget_peak(device)
    before = peak_memory(device)["peak_rss_bytes"]
    large = np.ones(256 << 20, np.uint8)
    within = peak_memory(device)["peak_rss_bytes"]
    assert within - before > 0.9 * large.nbytes
    size = large.nbytes
    del large
    assert within - peak_memory(device)["peak_rss_bytes"] < 0.1 * size  # pages, counted roughly
    forget_peak(device)
    assert within - peak_memory(device)["peak_rss_bytes"] > 0.9 * size


def test_a_system_without_proc_tells_no_peak(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(costs, "PROCESS", tmp_path / "none")
    forget_peak(torch.device("cpu"))
    assert peak_memory(torch.device("cpu")) == {}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_on_a_gpu_the_peak_is_of_its_tensors() -> None:
    device = torch.device("cuda")
    forget_peak(device)
    before = peak_memory(device)["peak_device_bytes"]
    large = torch.ones(64 << 20, dtype=torch.uint8, device=device)
    assert peak_memory(device)["peak_device_bytes"] - before >= large.numel()
    del large
    forget_peak(device)
    assert peak_memory(device)["peak_device_bytes"] == before


def trained(
    study: Study, trial: Trial, monkeypatch: pytest.MonkeyPatch, most: int, heard: int
) -> None:
    """Train `trial` as its worker would, until its process is killed after `most` reports.

    The launcher hears of `heard` of them alone.
    """
    sent: list[dict[str, Any]] = []

    def take(told: dict[str, Any]) -> None:
        sent.append(told)
        if len(sent) <= heard:
            study.report(trial.id, json.loads(told["report"]))
        if len(sent) == most:
            raise InterruptedError

    monkeypatch.setattr("ray.tune.report", take)
    worker.train_job(job_of(study, trial))


@pytest.mark.parametrize(
    ("most", "heard"),
    [
        (1, 1),
        (1, 0),  # the checkpoint is there, and nothing of it in the journal
        (3, 1),  # a fold-epoch of the first fold and one of the second are told again
        (3, 3),
    ],
)
def test_what_a_trial_cost_goes_on_after_a_kill(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, heard: int
) -> None:
    monkeypatch.setattr(worker, "get_device", worker.get_local_device)
    monkeypatch.setattr(reporter, "this_node", lambda: "here")
    monkeypatch.setattr(reporter, "draining_nodes", set)
    monkeypatch.setattr(reporter, "CHECKPOINT_EVERY_S", 0.0)
    study = new_study(shards, tmp_path / "whole", TREE)
    whole = next_searched(study)
    trained(study, whole, monkeypatch, 10**6, 10**6)
    other = new_study(shards, tmp_path / "killed", TREE)
    killed = next_searched(other)
    with pytest.raises(InterruptedError):
        trained(other, killed, monkeypatch, most, heard)
    assert killed.epoch == heard
    trained(other, killed, monkeypatch, 10**6, 10**6)
    assert [one["epoch"] for one in killed.reports] == [1, 2, 3, 4]
    assert [one["samples"] for one in killed.reports] == [one["samples"] for one in whole.reports]
    measured = {"inference_ms", "peak_rss_bytes"}
    if torch.cuda.is_available():
        measured = {"inference_ms", "peak_device_bytes"}
    counted = whole.costs.keys() - measured
    assert counted == {"effective_batch_size", "parameters", "flops", "samples_seen"}
    patches = study.plan.splits[0].patches
    assert whole.costs["samples_seen"] == study.plan.space.epochs * sum(patches)
    for trial in (whole, killed):
        assert trial.costs.keys() == counted | measured
        assert {name: trial.costs[name] for name in counted} == {
            name: whole.costs[name] for name in counted
        }
        assert all(trial.costs[name] > 0 for name in measured)
        assert sum("costs" in one for one in trial.reports) == 1
    [again] = History(json.loads(json.dumps(other.journal.events))).searched()
    assert again.costs == killed.costs


def test_a_checkpoint_of_an_older_version_goes_on_and_its_samples_are_unknown() -> None:
    states: list[State] = []

    def cut_short(_done: FoldEpoch, _judged: Judged, state: Callable[[], State]) -> None:
        states.append(state())
        raise InterruptedError

    with pytest.raises(InterruptedError):
        train(config(), rows_of(16), cut_short)
    [state] = states
    for known in state["history"]:
        del known["samples"]
    rest: list[dict[str, Any]] = []
    train(config(), rows_of(16), lambda done, *_more: rest.append(asdict(done)), state)
    assert [one["samples"] for one in rest] == [20] * 3
    assert "samples_seen" not in running_costs([*state["history"], *rest])
    assert running_costs(rest)["samples_seen"] == 60


def costing(epoch: int, objective: float) -> dict[str, Any]:
    """A report that tells what its fold-epoch cost; the first one, what does not change."""
    told = {**report(epoch, objective), "samples": 100, "inference_ms": 0.1 * epoch}
    told |= {"peak_device_bytes": 1000 - epoch}
    return told | ({"costs": FIXED} if epoch == 1 else {})


def test_the_costs_up_to_a_report_are_a_sum_a_median_and_the_most() -> None:
    reports = [costing(epoch, 0.5) for epoch in (1, 2, 3)]
    assert fixed_costs(reports) == FIXED
    assert running_costs(reports) == {
        "samples_seen": 300,
        "inference_ms": pytest.approx(0.2),
        "peak_device_bytes": 999,
    }
    assert running_costs(reports[:1])["samples_seen"] == 100
    unknown = [{**one, "samples": None, "inference_ms": None} for one in reports]
    assert running_costs(unknown) == {"peak_device_bytes": 999}
    assert fixed_costs([]) == running_costs([]) == {}
    assert fixed_costs([report(1, 0.5)]) == running_costs([report(1, 0.5)]) == {}


def test_results_and_the_page_show_what_was_recorded_and_read_older_journals(
    shards: Path, tmp_path: Path, capsys: Any
) -> None:
    study = new_study(shards, tmp_path / "studies" / "costly")
    old, new = next_searched(study), next_searched(study)
    study.report(old.id, report(1, 0.6))
    page = figures_page(study.plan, study.history, study_figures(study.plan, study.history))
    assert "FLOPs a patch" not in page
    for epoch in (1, 2):
        study.report(new.id, costing(epoch, 0.7))
    page = figures_page(study.plan, study.history, study_figures(study.plan, study.history))
    for shown in ("GFLOPs a patch</th>", ">5.68e-06</td>", ">200</td>", ">0.15</td>", ">0.00</td>"):
        assert page.count(shown) == 1
    words = ["results", "costly", "--studies", str(tmp_path / "studies"), "--json"]
    assert run(words) == 0
    told = {row["trial"]: row["costs"] for row in json.loads(capsys.readouterr().out)}
    assert told[new.id] == FIXED | {
        "samples_seen": 200,
        "inference_ms": pytest.approx(0.15),
        "peak_device_bytes": 999,
    }
    assert told[old.id] == told["benchmark"] == {}
    assert _attributes(new).items() >= told[new.id].items()
    copy = StudyFolder(tmp_path / "studies" / "copy")
    shutil.copytree(study.folder.address, copy.address)
    assert Study(copy, study.plan).history.trials[new.id].costs == told[new.id]
