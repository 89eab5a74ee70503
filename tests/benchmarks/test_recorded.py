"""The recorded curves, and the memory of the product that is made of them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from raysearch.config.space_file import read_space
from raysearch.data.splits.folds import groups_of
from raysearch.search.study.stored_study import read_splits
from raysearch.search.transfer.shipped_studies import FILE, group_hash
from recorded import digest, record
from support.result_studies import new_study, train_next


def test_the_memory_of_the_product_is_the_digest_of_the_recorded_curves(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.argv", ["digest.py", "--check"])
    assert digest.main() == 0
    line = json.loads(capsys.readouterr().out)
    assert line["equal"]
    assert line["value"] == FILE.stat().st_size < 1_000_000
    changed = tmp_path / "curves.json"
    changed.write_text(record.CURVES.read_text().replace("0.9", "0.8", 1))
    monkeypatch.setattr(digest, "CURVES", changed)
    assert digest.main() == 1


def test_a_recorded_study_has_figures_and_hashes_of_patients(shards: Path, tmp_path: Path) -> None:
    study = new_study(shards, tmp_path / "first")
    train_next(study, 3)
    content = record.recorded(study.folder)
    text = record.text_of([content])
    patients = groups_of(read_splits(study.folder, study.plan))
    assert content.groups == tuple(sorted(map(group_hash, patients)))
    assert content.has_patients
    assert not any(patient in text for patient in patients)
    trials = study.history.searched()
    recorded = content.source.trials
    assert [trial.hparams["width"] for trial in recorded] == [
        trial.hparams["width"] for trial in trials
    ]
    assert [len(trial.curve) for trial in recorded] == [len(trial.reports) for trial in trials]


def test_the_spaces_of_the_recordings_are_valid() -> None:
    for name in record.SPACES:
        space = read_space(record.HERE / f"{name}.yaml")
        assert (space.trials, space.sampler.name, space.stopping.rule) == (60, "random", "none")
