"""The costs of a trial are summarized from its reports."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from raysearch.analysis.search_figures import study_figures
from raysearch.cli import run
from raysearch.reports.search_page import search_page
from raysearch.search.journal.events import FoldReport, ModelCosts
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.journal.trial_costs import TrialCosts, fixed_costs, running_costs
from raysearch.search.study.study import Study
from support.result_studies import fold_report, new_study, next_searched

MODEL_COSTS = ModelCosts(effective_batch_size=32, parameters=2842, flops=5680)
FIXED = {"effective_batch_size": 32, "parameters": 2842, "flops": 5680}


def costly_report(trial: str, epoch: int, objective: float) -> FoldReport:
    return fold_report(
        trial,
        epoch,
        objective,
        samples=100,
        inference_ms=0.1 * epoch,
        peak_device_bytes=1000 - epoch,
        costs=MODEL_COSTS if epoch == 1 else None,
    )


def test_the_costs_are_a_sum_a_median_and_a_maximum() -> None:
    reports = [costly_report("t0000", epoch, 0.5) for epoch in (1, 2, 3)]
    assert fixed_costs(reports).by_name() == FIXED
    assert running_costs(reports).by_name() == {
        "samples_seen": 300,
        "inference_ms": pytest.approx(0.2),
        "peak_device_bytes": 999,
    }
    assert running_costs(reports[:1]).samples_seen == 100


def test_the_costs_are_none_if_the_reports_do_not_contain_them() -> None:
    reports = [costly_report("t0000", epoch, 0.5) for epoch in (1, 2, 3)]
    without = [replace(report, samples=None, inference_ms=None) for report in reports]
    assert running_costs(without) == TrialCosts(peak_device_bytes=999)
    assert running_costs([without[0], *reports[1:]]).samples_seen is None
    assert fixed_costs([]) == running_costs([]) == TrialCosts()
    plain = [fold_report("t0000", 1, 0.5)]
    assert fixed_costs(plain) == running_costs(plain) == TrialCosts()
    assert TrialCosts().by_name() == {}


def test_results_and_the_page_show_the_recorded_costs(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = new_study(shards, tmp_path / "studies" / "costly")
    without, costly = next_searched(study), next_searched(study)
    study.report(fold_report(without.id, 1, 0.6))
    page = search_page(study.plan, study.history, study_figures(study.plan, study.history))
    assert "GFLOPs" not in page
    for epoch in (1, 2):
        study.report(costly_report(costly.id, epoch, 0.7))
    page = search_page(study.plan, study.history, study_figures(study.plan, study.history))
    for cell in (">5.68e-06</td>", ">200</td>", ">0.15</td>", ">0.00</td>"):
        assert page.count(cell) == 1
    assert run(["results", "costly", "--studies", str(tmp_path / "studies"), "--json"]) == 0
    costs = {
        row["trial"]: row["costs"] for row in json.loads(capsys.readouterr().out)["leaderboard"]
    }
    assert costs[costly.id] == FIXED | {
        "samples_seen": 200,
        "inference_ms": pytest.approx(0.15),
        "peak_device_bytes": 999,
    }
    assert costs[without.id] == costs["benchmark"] == {}
    copy = StudyFolder(tmp_path / "studies" / "copy")
    shutil.copytree(study.folder.address, copy.address)
    copied = Study(copy, study.plan).history.trials[costly.id]
    assert copied.costs.by_name() == costs[costly.id]
