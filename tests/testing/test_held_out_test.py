"""The held-out set is opened once, for the locked champion, and every opening is counted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from raysearch.cli import run
from raysearch.data.files import Folder
from raysearch.data.patches import load_rows
from raysearch.data.shards.sharding import write_shards
from raysearch.data.splits.access_log import test_set_accesses
from raysearch.data.view import View
from raysearch.errors import DataError, StudyError
from raysearch.inference.model_loading import load_model
from raysearch.search.study.study import Study
from raysearch.selection.decision_rule import Options
from raysearch.testing.external_test_set import Outside, judge_outside
from raysearch.testing.held_out_test import held_out_set, reject_second
from raysearch.testing.test_results import HELD_OUT, kept, scores_of
from support.champion_studies import HPARAMS, crown_again, crowned_study

pytestmark = pytest.mark.filterwarnings("ignore")


def told(words: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    capsys.readouterr()
    assert run([*words, "--json"]) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def test_the_champion_is_judged_by_the_held_out_patients_alone_and_every_look_is_counted(
    crowned: Study, many: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = told(["test", "first"], capsys)
    held_out = set(crowned.plan.view.held_out)
    rows = load_rows(str(many))
    assert len(held_out) == 9
    assert first["patients"] == 9
    assert first["rows"] == int(np.isin(rows.patients, sorted(held_out)).sum())
    assert first["opening"] == {"by_this_study": 1, "by_all": 1}
    assert "no run of study" in str(first["unsent"])
    (about,) = kept(crowned.folder)
    assert about.name == HELD_OUT
    assert set(scores_of(crowned.folder, about).patients) == held_out
    again = told(["test", "first"], capsys)
    assert again["opening"] == {"by_this_study": 2, "by_all": 2}
    assert again["metrics"] == first["metrics"]
    assert [one.study for one in test_set_accesses(Folder(many), "label")] == ["first", "first"]


def test_tables_say_what_was_found_and_how_often_it_was_opened(
    crowned: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    assert crowned.history.champion
    assert run(["test", "first"]) == 0
    said = capsys.readouterr().out
    for words in (
        "Sealed test set of first: 7",
        "95 % by patient",
        "By class, decided by threshold 0.",
        "Decided only where sure enough",
        "Cleared without a person, by patient",
        "number of confident positives",
        "for the first time by this study, for the first time in all",
    ):
        assert words in said


def test_where_places_are_known_the_patches_near_each_one_tell_the_held_out_ones_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/runs.db")
    noisy_slides(tmp_path / "images")
    write_shards(str(tmp_path / "images"), tmp_path / "slides", "idc", workers=1)
    assert run(["split", str(tmp_path / "slides"), "--folds", "2", "--test", "0.25"]) == 0
    hparams = {**HPARAMS, "batch_size": 8}
    crowned_study(tmp_path / "slides", tmp_path / "studies" / "placed", hparams)
    found: dict[str, Any] = told(["test", "placed"], capsys)
    alone, near = found["metrics"]["auroc"], found["in_context"]
    assert near["value"] > alone["value"] + 0.05
    assert near["low"] < near["value"] <= near["high"]
    assert run(["test", "placed"]) == 0
    said = " ".join(capsys.readouterr().out.replace("│", "").split())
    assert f"auroc in context {near['value']:.4f}" in said
    assert run(["report", "placed"]) == 0
    page = (tmp_path / "placed.html").read_text()
    assert page.count("auroc in context") == 2  # out of fold, and held-out


def noisy_slides(top: Path) -> None:
    """Images of 12 slides as IDC has them, the right half positive: a bit darker, as is chance."""
    draw = np.random.default_rng(0)
    for patient, x, y in np.ndindex(12, 6, 6):
        label = int(x > 2)
        path = (
            top / f"{patient}/{label}/{patient}_idx5_x{50 * x + 1}_y{50 * y + 1}_class{label}.png"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        light = int(np.clip(150 - 25 * label + draw.normal(0, 25), 0, 255))
        Image.new("RGB", (50, 50), (light, 90 + patient, 3 * x + 20 * y)).save(path)


def test_another_champion_of_the_study_is_not_judged_by_a_set_that_was_seen(
    crowned: Study, many: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["test", "first"]) == 0
    crown_again(crowned, Options(criterion="f1"))
    assert run(["test", "first"]) == 2
    error = capsys.readouterr().err
    assert "was opened on 20" in error
    assert "another criterion is locked now" in error
    assert len(test_set_accesses(Folder(many), "label")) == 1
    found = held_out_set(crowned.plan)
    other = replace(found.earlier[0], champion="t0009")
    with pytest.raises(StudyError, match="t0009 is another champion"):
        reject_second(found, other)
    reject_second(found, replace(other, identity="another study"))


def test_a_study_without_a_champion_or_a_held_out_set_is_rejected(
    crowned: Study, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["test", "nobody"]) == 2
    assert "no study 'nobody'" in capsys.readouterr().err
    crowned_study(shards, tmp_path / "studies" / "small")
    assert run(["test", "small"]) == 2
    assert "no held-out set" in capsys.readouterr().err
    crowned.folder.remove(crowned.folder.CHAMPION)
    assert run(["test", "first"]) == 2
    assert "missing or damaged" in capsys.readouterr().err


def test_a_damaged_book_of_openings_is_not_taken_for_an_empty_one(
    crowned: Study, many: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert crowned.history.champion
    Folder(many).write("splits/openings/label/2026.json", b"{")
    assert run(["test", "first"]) == 2
    assert "damaged; restore it from a copy" in capsys.readouterr().err


def nothing(_done: int, _every: int) -> None:
    """Nobody watches."""


def test_a_set_from_elsewhere_is_judged_and_kept_with_the_study(
    crowned: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    write_shards("20:200:9", other, "synthetic", workers=1)
    rename_patients(other, "other-")
    found = told(["evaluate", "first", str(other), "--report", "other.html"], capsys)
    assert "Other: 200 patches of 20 patients" in (tmp_path / "other.html").read_text()
    assert run(["evaluate", "first", str(other), "--report", "nowhere/x.html"]) == 2
    assert found["name"] == "other"
    assert found["rows"] == 200
    assert [one.name for one in kept(crowned.folder)] == ["other"]
    assert run(["evaluate", "first", str(other), "--name", "held_out"]) == 2


def rename_patients(shards: Path, prefix: str) -> None:
    """Give the patients of the drawn `shards` names of their own."""
    import hashlib

    import pyarrow as pa
    import pyarrow.parquet as pq

    manifest = json.loads((shards / "manifest.json").read_text())
    for one in manifest["shards"]:
        table = pq.read_table(shards / one["name"])
        names = pa.array([prefix + name for name in table["patient"].to_pylist()])
        place = table.column_names.index("patient")
        field = table.schema.field("patient")
        table = table.set_column(place, field, names.cast(field.type))
        pq.write_table(
            table,
            shards / one["name"],
            compression="none",
            use_dictionary=False,
            write_page_checksum=True,
        )
        content = (shards / one["name"]).read_bytes()
        one |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    hashes = "\n".join(one["sha256"] for one in manifest["shards"])
    manifest["fingerprint"] = hashlib.sha256(hashes.encode()).hexdigest()
    (shards / "manifest.json").write_text(json.dumps(manifest))


def test_shared_patients_and_shared_pixels_are_rejected(
    crowned: Study, many: Path, tmp_path: Path
) -> None:
    model = load_model("first", str(tmp_path / "studies"))
    assert model.recipe.learned.view == crowned.plan.view
    with pytest.raises(DataError, match=r"patient 'p\d+', one of 51, was learned from"):
        judge_outside(model, Outside(str(many)), nothing)
    same = tmp_path / "same"
    write_shards("60:480:1", same, "synthetic", workers=1)
    rename_patients(same, "other-")
    with pytest.raises(DataError, match="of its patches have the very pixels"):
        judge_outside(model, Outside(str(same)), nothing)
    learned = replace(model.recipe.learned, data=str(tmp_path / "gone"))
    lost = replace(model, recipe=replace(model.recipe, learned=learned))
    found = judge_outside(lost, Outside(str(same)), nothing)
    assert any("cannot be ruled out" in note for note in found.about.notes)


def test_other_sizes_classes_and_tasks_are_rejected(crowned: Study, tmp_path: Path) -> None:
    assert crowned.history.champion
    model = load_model("first", str(tmp_path / "studies"))
    larger = tmp_path / "larger"
    write_shards("4:40:2", larger, "synthetic", size=(64, 64), workers=1)
    with pytest.raises(DataError, match="takes 50x50; shard them again with --size 50x50"):
        judge_outside(model, Outside(str(larger)), nothing)
    recipe = replace(model.recipe, class_names=("benign", "malignant"), shape=(64, 64, 3))
    other = replace(model, recipe=recipe)
    with pytest.raises(DataError, match="is none of those of first, trial t0000"):
        judge_outside(other, Outside(str(larger)), nothing)
    with pytest.raises(DataError, match="task 'subtype'"):
        judge_outside(model, Outside(str(larger), "subtype"), nothing)


def test_classes_of_other_names_are_judged_by_those_of_the_model(
    crowned: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert crowned.history.champion
    other = tmp_path / "other"
    write_shards("20:200:9", other, "synthetic", workers=1)
    rename_patients(other, "other-")
    wanted = told(["evaluate", "first", str(other)], capsys)
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["class_names"] = ["0", "1"]
    (other / "manifest.json").write_text(json.dumps(manifest))
    assert run(["evaluate", "first", str(other)]) == 2
    assert "say what it is called there by --as 0=NAME" in capsys.readouterr().err
    found = told(["evaluate", "first", str(other), "--as", "0=negative,1=positive"], capsys)
    assert found["metrics"] == wanted["metrics"]
    for text, error in (("0", "not names"), ("2=negative", "no class of")):
        assert run(["evaluate", "first", str(other), "--as", text]) == 2
        assert error in capsys.readouterr().err


def test_held_out_rows_alone_are_seen_by_the_complement_of_what_is_learned(
    crowned: Study, many: Path
) -> None:
    found = held_out_set(crowned.plan)
    inside = load_rows(str(many), found.view)
    learned = load_rows(str(many), crowned.plan.view)
    assert not set(inside.patients) & set(learned.patients)
    assert len(inside.labels) + len(learned.labels) == len(load_rows(str(many), View()).labels)
