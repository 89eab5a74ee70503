"""Requests that no launcher has read precede the search of the next launch."""

from __future__ import annotations

from pathlib import Path

import pytest

from raysearch import workflow
from raysearch.errors import StudyError
from raysearch.search.study.stop_requests import exclusion_request, trial_request, write_requests
from raysearch.search.study.study import Study
from support.result_studies import new_study, next_searched
from support.workflow_stand_ins import NoListener, no_session


def test_a_resumed_study_records_them_before_a_trial_starts(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = new_study(shards, tmp_path / "studies" / "first")
    trial, plan = next_searched(study), study.plan
    requests = [
        trial_request(plan.identity, study.history, trial.id),
        exclusion_request(plan.identity, plan.space, study.history, "optimizer=sgd"),
    ]
    write_requests(study.folder, requests)

    def search(resumed: Study) -> None:
        assert all(request.is_recorded(resumed.history) for request in requests)
        raise StudyError("the search has started")

    monkeypatch.setattr(workflow, "_session", no_session)
    monkeypatch.setattr(workflow, "_tracker", no_session)
    monkeypatch.setattr(workflow, "run_search", search)
    with pytest.raises(StudyError, match="the search has started"):
        workflow.run_study(study.folder, plan, None, NoListener())
    assert study.folder.names(study.folder.REQUESTS) == []
