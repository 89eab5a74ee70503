"""An audit that is interrupted continues after its last row group, with the same results."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from raysearch.data.audit import shard_audit
from raysearch.data.audit.shard_audit import Audit, audit_shards
from raysearch.data.shards import sharding
from raysearch.data.step_progress import StepProgress
from support.audit_sets import ImageSet, clean_image_set, distinct_patches

ROWS_PER_GROUP = 10


@pytest.fixture
def image_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageSet:
    """A set of 50 images in row groups of 10, two of which are turned copies of others."""
    monkeypatch.setenv("RAYSEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sharding, "MAX_CHUNK_ROWS", ROWS_PER_GROUP)
    monkeypatch.setattr(sharding, "ROW_GROUP_BYTES", ROWS_PER_GROUP * 50 * 50 * 3)
    (tmp_path / "images").mkdir()
    images = clean_image_set(tmp_path / "images")
    for patch in distinct_patches()[:2]:
        images.add(np.rot90(patch), "p9", "no")
    return images


def results(audit: Audit) -> dict[str, str]:
    names = (field.name for field in fields(audit))
    return {name: repr(getattr(audit, name)) for name in names if name not in ("rows", "sources")}


@pytest.mark.parametrize("step", [shard_audit.MEASURING, shard_audit.COMPARING_TURNED])
def test_an_interrupted_audit_computes_no_row_group_twice(
    image_set: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    data = image_set.shard()
    uninterrupted = audit_shards(data, "label", 0)
    assert uninterrupted.exact_duplicates
    num_calls = {"compute_patch_features": 0, "canonical_hash": 0}
    for name in num_calls:
        function = getattr(shard_audit, name)

        def count(*arguments: object, name: str = name, function: object = function) -> object:
            num_calls[name] += 1
            assert callable(function)
            return function(*arguments)

        monkeypatch.setattr(shard_audit, name, count)
    reports: list[StepProgress] = []

    def interrupt(progress: StepProgress) -> None:
        reports.append(progress)
        if progress.step == step and sum(report.step == step for report in reports) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        audit_shards(data, "label", 0, interrupt)
    assert results(audit_shards(data, "label", 0)) == results(uninterrupted)
    assert num_calls["compute_patch_features"] == 5
    assert num_calls["canonical_hash"] == 4
    assert not list((tmp_path / "cache").glob("unfinished-*"))


def test_the_steps_of_an_audit_count_patches_and_models(image_set: ImageSet) -> None:
    reports: list[StepProgress] = []
    audit_shards(image_set.shard(), "label", 0, reports.append)
    measured = [report for report in reports if report.step == shard_audit.MEASURING]
    assert [(report.done, report.total, report.unit) for report in measured] == [
        (number * ROWS_PER_GROUP, 50, "patches") for number in range(5)
    ]
    steps = list(dict.fromkeys(report.step for report in reports))
    assert steps == [
        *("Reading the labels", "Measuring the patches", "Comparing turned copies"),
        *("Comparing similar patches", "Training the color models", "Collecting the results"),
    ]
    assert {report.unit for report in reports} == {"patches", "models"}
