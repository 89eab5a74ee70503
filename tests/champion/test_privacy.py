"""What is passed on of a study names no patient, no folder, no user and no machine."""

from __future__ import annotations

import io
import json
import re
import socket
import sqlite3
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pytest

from raysearch.champion.model_artifact import unpack_model_artifact
from raysearch.champion.register import example_batch, select_and_register_champion
from raysearch.cli import run
from raysearch.data.pseudonyms import DISPLAYED_DIGITS, PATIENT, key_in
from raysearch.data.shards.patches import load_patches
from raysearch.data.shards.sharding import write_shards
from raysearch.reports.search_page import search_artifacts
from raysearch.search.study.study import Study
from raysearch.search.tracking.model_registry import ARTIFACT_PATH
from raysearch.search.tracking.tracker import Tracker
from raysearch.search.tracking.tracking_store import global_store
from raysearch.selection.decision_rule import SelectionOptions
from support.champion_studies import study_with_champion
from support.external_sets import rename_patients

pytestmark = pytest.mark.filterwarnings("ignore")
PATIENTS, USER, HOST = "hospital-patient-", "user-of-this-test", "machine-of-this-test"
# Where MLflow finds the files of a run: the database has to have it.
ARTIFACT_ADDRESSES = {"artifact_uri", "artifact_location", "storage_location"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working directory of all commands."""
    return tmp_path_factory.mktemp("privacy")


@pytest.fixture(scope="module")
def study(folder: Path) -> Iterator[Study]:
    """The study `first` over shards with recognizable patients; its champion is registered."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
            patch.setenv(name, USER)
        patch.setattr(socket, "gethostname", lambda: HOST)
        patch.chdir(folder)
        store = f"sqlite:///{folder}/runs.db"
        patch.setenv("MLFLOW_TRACKING_URI", store)
        write_shards("60:480:1", folder / "shards", "synthetic", workers=1)
        rename_patients(folder / "shards", PATIENTS)
        study = study_with_champion(folder / "shards", folder / "studies" / "first")
        tracker = Tracker(study.plan, store)
        for event in study.journal.events:
            tracker.send(event)
        options = SelectionOptions(repeats=0)
        select_and_register_champion(study, tracker, lambda _text: None, options)
        tracker.send_files(search_artifacts(study.plan, study.history))
        assert tracker.close("FINISHED", 60) is None
        yield study


def secrets_of(folder: Path) -> list[str]:
    source = str(Path(__file__).parents[2])
    return [PATIENTS, USER, HOST, str(folder), str(Path.home()) + "/", source, sys.prefix]


def contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each file below `folder`, and of each member of an archive."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        yield str(path), content
        # A model's file has a hash before its archive.
        start = content.find(b"PK\x03\x04")
        if start >= 0 and zipfile.is_zipfile(io.BytesIO(content[start:])):
            with zipfile.ZipFile(io.BytesIO(content[start:])) as archive:
                for name in archive.namelist():
                    yield f"{path}:{name}", archive.read(name)


def database_texts(file: Path) -> Iterator[tuple[str, str]]:
    """Yield table and column, and the text, of each cell, without the addresses of artifacts."""
    with sqlite3.connect(file) as database:
        tables = database.execute("select name from sqlite_master where type = 'table'").fetchall()
        for (table,) in tables:
            rows = database.execute(f'select * from "{table}"')
            columns = [column[0] for column in rows.description]
            for row in rows:
                for column, value in zip(columns, row, strict=True):
                    if isinstance(value, str) and column not in ARTIFACT_ADDRESSES:
                        yield f"{table}.{column}", value


def test_models_reports_and_mlflow_name_no_patient_no_folder_no_user_and_no_machine(
    study: Study, folder: Path
) -> None:
    assert run(["test", "first"]) == 0
    assert run(["report", "first"]) == 0
    found = [
        (name, secret)
        for name, content in [
            *contents(folder / "mlruns"),
            (("first.html"), (folder / "first.html").read_bytes()),
        ]
        for secret in secrets_of(folder)
        if secret.encode() in content
    ]
    found += [
        (name, secret)
        for name, text in database_texts(folder / "runs.db")
        for secret in secrets_of(folder)
        if secret in text
    ]
    assert found == []
    assert study.plan.view.held_out


def test_the_pages_of_a_study_share_their_pseudonyms_and_identifiers_are_shown_on_request(
    study: Study, folder: Path
) -> None:
    assert run(["report", "first", "--out", "shared.html"]) == 0
    assert run(["report", "first", "--out", "own.html", "--identifiers"]) == 0
    key = key_in(study.folder, study.folder.PSEUDONYM_KEY)
    shared, own = ((folder / name).read_text() for name in ("shared.html", "own.html"))
    shown = set(re.findall(f"{PATIENTS}p[0-9]+", own))
    assert len(shown) > 10
    assert all(key.pseudonym(PATIENT, name, DISPLAYED_DIGITS) in shared for name in shown)
    # The copy in MLflow is read by others.
    (copy,) = (folder / "mlruns").rglob("report.html")
    assert copy.read_text() == shared


def test_the_registered_model_has_a_keyed_hash_of_each_training_patient(
    study: Study, folder: Path
) -> None:
    (file,) = (folder / "mlruns").rglob(Path(ARTIFACT_PATH).name)
    record = unpack_model_artifact(file.read_bytes()).training_data
    assert record is not None
    key_file = Path(study.folder.path(study.folder.PSEUDONYM_KEY))
    assert key_file.stat().st_mode & 0o777 == 0o600
    key = key_in(study.folder, study.folder.PSEUDONYM_KEY)
    patches = load_patches(study.plan.data, view=study.plan.view)
    names = np.unique(patches.patients).tolist()
    assert record.patients == tuple(sorted(key.digest(PATIENT, name) for name in names))
    assert record.shared_patients(np.array([names[3], "another"]), key) == [names[3]]
    assert len(record.patches) == len(patches.labels)


def test_the_example_of_the_registered_model_is_synthetic(study: Study, folder: Path) -> None:
    (file,) = (folder / "mlruns").rglob("input_example.json")
    example = np.array(json.loads(file.read_text()), np.uint8)
    assert np.array_equal(example, example_batch(study.plan.shape))
    pixels = load_patches(study.plan.data).pixels
    for patch in example.reshape(len(example), -1):
        assert not (pixels == patch).all(axis=1).any()
    (program,) = (folder / "mlruns").rglob("model.pt2")
    with zipfile.ZipFile(program) as archive:
        members = b"".join(archive.read(name) for name in archive.namelist())
    assert b"raysearch/models" not in members  # no line of source code


def test_the_registered_model_accepts_every_batch_size(study: Study, folder: Path) -> None:
    with global_store(f"sqlite:///{folder}/runs.db"):
        model = mlflow.pyfunc.load_model(f"models:/{study.plan.name}@champion")
    for rows in (1, 5):
        batch = np.zeros((rows, *study.plan.shape), np.uint8)
        assert len(model.predict(batch)) == rows


@pytest.mark.parametrize("shape", [(50, 50, 3), (32, 48, 3), (96, 64, 3)])
def test_the_example_has_the_shape_of_the_models_patches(shape: tuple[int, int, int]) -> None:
    batch = example_batch(shape)
    assert batch.shape == (2, *shape)
    assert batch.dtype == np.uint8
    assert np.ptp(batch) > 0
