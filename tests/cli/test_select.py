"""`raysearch select`: its table, its text, its JSON and its errors."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from raysearch.cli import run
from raysearch.cli.selection_text import selection_lines
from raysearch.cli.study_end import StudyEnd
from raysearch.cli.study_end_text import end_lines
from raysearch.metrics.calibration import CRITERIA
from raysearch.metrics.interval import Interval
from raysearch.metrics.model_selection import MARGIN
from raysearch.search.journal.codec import record_from_json, record_to_json
from raysearch.search.journal.events import ChampionDecision
from raysearch.search.study.fold_scores import out_of_fold
from raysearch.search.study.study import Study
from raysearch.selection.decision_rule import fit_decision_rule
from support.scored_trials import four_trials_study


@pytest.fixture
def study(shards: Path, tmp_path: Path) -> Study:
    return four_trials_study(shards, tmp_path / "studies" / "chosen")


@pytest.fixture
def end(study: Study) -> StudyEnd:
    """The end of the study, without repeats."""
    rule = fit_decision_rule(out_of_fold(study.folder, study.plan, study.history.trials["t0001"]))
    return StudyEnd(
        study="chosen",
        champion="t0001",
        chosen="t0001",
        tied=("t0000", "t0001"),
        decision=ChampionDecision(margin=0.01, kind="refit", repeats=1, **asdict(rule)),
        objective=Interval(0.91, 0.9347, 0.95),
        corrected=Interval(0.9, 0.93, 0.95),
        repeats=(),
        pooled_auroc=Interval(0.9, 0.93, 0.95),
        smoothed_auroc=None,
        version="1",
        folder="studies/chosen",
        store="sqlite:///runs.db",
        tracking_error=None,
    )


def test_a_dry_run_prints_the_table_or_json(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    studies = str(Path(study.folder.address).parent)
    command = ["select", "chosen", "--dry-run", "--studies", studies, "--margin", "0.01"]
    assert run(command) == 0
    output = capsys.readouterr().out
    assert "pooled out of fold over" in output
    (row,) = [line for line in output.splitlines() if "selected" in line and "t0001" in line]
    assert row
    assert run([*command, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    chosen = [candidate["trial"] for candidate in record["candidates"] if candidate["chosen"]]
    assert chosen == ["t0001"]
    assert record["corrected"]["value"] is not None
    assert record["repeat_fold_epochs"] == 4


def test_the_text_says_which_trial_is_selected_and_why(study: Study, end: StudyEnd) -> None:
    lines = selection_lines(study.plan, study.history, end)
    assert lines[0] == ("Selected  t0001: the fastest of 2 trials tied within 0.01 (t0000, t0001)")
    assert "the best of 4 trials" in lines[1]
    assert lines[2].startswith("Decision  temperature ")
    assert ", threshold 0." in lines[2]
    replaced = selection_lines(study.plan, study.history, replace(end, chosen="t0000"))[0]
    assert replaced == "Selected  t0001: the best after t0000, whose refit failed"


def test_the_end_is_the_same_after_a_message_to_another_machine(
    study: Study, end: StudyEnd
) -> None:
    received = record_from_json(StudyEnd, json.loads(json.dumps(record_to_json(end))))
    assert received == end
    lines = end_lines(study.plan, study.history, received)
    assert "Model     models:/chosen@champion (version 1)" in lines
    assert lines[-1] == "Compare   run raysearch ui --open"
    served = replace(end, store="http://a:5000", comparison="http://a:5000#/experiments/1/runs")
    assert end_lines(study.plan, study.history, served)[-1] == f"Compare   {served.comparison}"


def test_the_help_names_the_criteria_and_the_default(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["select", "--help"]) == 0
    output = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert ", ".join(CRITERIA) in output
    assert f"default: {MARGIN}" in output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--margin", "-1"), "--margin -1.0: must be a number of at least 0"),
        (("--margin", "nan"), "--margin nan: must be a number"),
        (("--repeats", "21"), "--repeats 21: must be a number from 0 to 20"),
        (("--ensemble", "--repeats", "0"), "--repeats 0: an ensemble consists of the networks of"),
        (("--threshold-by", "luck"), "--threshold-by luck: must be one of balanced_accuracy, f1,"),
    ],
)
def test_wrong_options_are_reported_in_one_line(
    study: Study, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], message: str
) -> None:
    studies = str(Path(study.folder.address).parent)
    assert run(["select", "chosen", "--studies", studies, *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.usefixtures("slide_study")
def test_the_times_of_a_study_of_slides_are_those_of_a_slide(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert run(["select", "first", "--dry-run"]) == 0
    output = capsys.readouterr().out
    assert "ms per slide" in output
    assert "patch" not in output
