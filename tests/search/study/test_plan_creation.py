"""The plan of a study over every split scheme, and the data that is rejected."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from raysearch.cli.plan_text import plan_tables
from raysearch.config.space import Space
from raysearch.config.space_file import parse_space
from raysearch.data.files import Folder
from raysearch.data.shards.rows import load_rows
from raysearch.data.shards.sharding import write_shards
from raysearch.data.splits.official_splits import official_split_manifest
from raysearch.data.splits.split_creation import SplitSpec
from raysearch.errors import DataError, SpaceError, StudyError
from raysearch.models.encoders.encoder_table import ENCODERS
from raysearch.search.study.architecture_checks import (
    check_architectures,
    encoders_of,
    licenses_of_weights,
    pretraining_notes,
)
from raysearch.search.study.plan import load_plan
from raysearch.search.study.plan_creation import (
    are_known_to_be_accepted,
    make_plan,
    reject_changes,
)
from support.lora_networks import timm_snapshot
from support.result_studies import TREE
from support.split_schemes import scheme_tree


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of 8 patients with both classes, 4 patches each."""
    path = tmp_path_factory.mktemp("validation") / "shards"
    write_shards("8:32:1", path, "synthetic", workers=1)
    return path


def test_leave_one_out_validates_on_each_patient_once(cohort: Path) -> None:
    space = scheme_tree(validation="leave-one-out", objective={"metric": "log_loss"})
    plan, splits = make_plan(parse_space(space, "x"), "x", str(cohort))
    assert [split.folds for split in plan.splits] == [8]
    assert plan.splits[0].patients == (1,) * 8
    assert plan.max_fold_epochs == 2 * 8 + 8 + 1
    assert load_plan(plan.dump()) == plan
    (*_others, table) = plan_tables(plan, 1)
    assert [list(column.cells) for column in table.columns] == [
        ["lowest", "median", "highest"],
        ["1"] * 3,
        ["4"] * 3,
    ]
    reject_changes(plan, make_plan(parse_space(space, "x"), "x", str(cohort))[0])
    assert [len(fold.validation) for fold in splits[8]] == [1] * 8


def test_repeated_holdouts_have_different_validation_groups(cohort: Path) -> None:
    space = parse_space(scheme_tree(validation="holdout-3x0.25"), "x")
    plan, splits = make_plan(space, "x", str(cohort))
    assert plan.splits[0].folds == 3
    assert [len(fold.validation) for fold in splits[3]] == [2, 2, 2]
    assert len({fold.validation for fold in splits[3]}) > 1


def test_an_official_split_needs_its_split_manifest(cohort: Path, tmp_path: Path) -> None:
    space = scheme_tree(validation="official", split="published")
    with pytest.raises(DataError, match="no split manifest 'published'"):
        make_plan(parse_space(space, "x"), "x", str(cohort))
    with pytest.raises(DataError, match="no official split; create one with `raysearch split"):
        make_plan(parse_space(scheme_tree(validation="official"), "x"), "x", str(cohort))
    rows = load_rows(str(cohort))
    names = np.unique(rows.patients).tolist()
    parts = {"train": names[:4], "val": names[4:6], "test": names[6:7]}
    for part, patients in parts.items():
        (tmp_path / f"cases_{part}.txt").write_text("\n".join(patients))
    sources = [str(tmp_path / f"cases_{part}.txt") for part in parts]
    manifest = official_split_manifest(rows, "label", SplitSpec(), sources)
    manifest.write(Folder(str(cohort)), "published")
    plan, splits = make_plan(parse_space(space, "x"), "x", str(cohort))
    assert list(splits) == [1]
    assert plan.view.held_out == tuple(parts["test"])


def test_a_fold_without_a_class_is_rejected_if_the_objective_is_undefined(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table = ["path,label,patient"]
    (tmp_path / "images").mkdir()
    for number, (patient, label) in enumerate([("a", 0), ("a", 1), ("b", 0), ("b", 1), ("c", 0)]):
        pixels = rng.integers(0, 255, (50, 50, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{number}.png")
        table.append(f"images/{number}.png,{label},{patient}")
    (tmp_path / "rows.csv").write_text("\n".join(table))
    write_shards(str(tmp_path / "rows.csv"), tmp_path / "shards", "csv", workers=1)
    space = scheme_tree(validation="leave-one-out")
    with pytest.raises(DataError, match="fold 2: no validation patch has class 1, and auroc"):
        make_plan(parse_space(space, "x"), "x", str(tmp_path / "shards"))
    for metric in ("log_loss", "brier", "accuracy"):
        defined = parse_space(space | {"objective": {"metric": metric}}, "x")
        assert make_plan(defined, "x", str(tmp_path / "shards"))[0].splits[0].folds == 3


@pytest.mark.parametrize("scheme", ["loo", "holdout-0x0.2", "holdout-5x1.5", "3-fold"])
def test_an_unknown_split_scheme_is_rejected(scheme: str) -> None:
    known = r"validation: .* is unknown.*\(known: folds, leave-one"
    with pytest.raises(SpaceError, match=known):
        parse_space(scheme_tree(validation=scheme), "x")


def test_a_split_scheme_with_its_own_folds_rejects_a_number_of_folds() -> None:
    tree: dict[str, Any] = scheme_tree(validation="leave-one-out") | {"space": {"folds": 3}}
    with pytest.raises(SpaceError, match="`validation: leave-one-out` has its own folds"):
        parse_space(tree, "x")


def test_a_budget_below_one_trial_is_rejected(shards: Path) -> None:
    space = parse_space(TREE | {"budget": {"fold_epochs": 7}}, "x")
    with pytest.raises(SpaceError, match=r"budget\.fold_epochs: 7 is less than the 8"):
        make_plan(space, "x", str(shards))


def test_a_resume_with_another_space_is_rejected_with_the_differences(shards: Path) -> None:
    plan = make_plan(parse_space(TREE, "x"), "x", str(shards))[0]
    changed = {**TREE, "epochs": 5, "space": {**TREE["space"], "patient_fraction": 0.5}}
    new_plan = make_plan(parse_space(changed, "x"), "x", str(shards))[0]
    with pytest.raises(StudyError) as rejected:
        reject_changes(plan, new_plan)
    assert "epochs was 4, is 5" in str(rejected.value)
    assert "space.patient_fraction was absent, is fixed 0.5" in str(rejected.value)
    reject_changes(plan, make_plan(parse_space(TREE, "x"), "x", str(shards))[0])


def test_each_input_size_of_a_choice_is_checked() -> None:
    space = {"folds": 2, "architecture": "inception_v3", "input_size": {"choice": [32, 96]}}
    large = {**space, "input_size": {"choice": [75, 96]}}
    for hparams, is_accepted in ((space, False), (large, True)):
        parsed = parse_space({**TREE, "space": hparams}, "x")
        assert are_known_to_be_accepted(parsed, (50, 50, 3)) == is_accepted
    with pytest.raises(SpaceError, match="cannot take patches of 32x32"):
        check_architectures(parse_space({**TREE, "space": space}, "x"), (50, 50, 3))


def lora_space(folder: Path, **hparams: object) -> Space:
    """A space in which the network in `folder` is trained by LoRA, or as a whole."""
    adaptation = {"choice": ["lora", "full"]}
    transfer = {"architecture": str(folder), "adaptation": adaptation, "batch_size": 16}
    return parse_space({**TREE, "space": {"folds": 2, **transfer, **hparams}}, "x")


def test_lora_is_checked_with_all_targets_before_a_study_starts(tmp_path: Path) -> None:
    folder = timm_snapshot(tmp_path / "vit")
    targets = {"choice": ["attention", "mlp", "all"], "when": {"adaptation": "lora"}}
    space = lora_space(folder, lora_targets=targets)
    (file,) = check_architectures(space, (16, 16, 3))
    assert (file.architecture, file.weights) == (str(folder), "pretrained")
    convolutions = {"architecture": "resnet18", "weights": "/no/such/file.pt"}
    with pytest.raises(SpaceError, match="architecture resnet18: `adaptation: lora` needs blocks"):
        check_architectures(lora_space(folder, **convolutions), (32, 32, 3))
    only_attention = convolutions | {"architecture": "convnext_tiny", "lora_targets": targets}
    with pytest.raises(SpaceError, match="no linear layers of `lora_targets: attention`"):
        check_architectures(lora_space(folder, **only_attention), (32, 32, 3))


def test_networks_that_are_not_trained_by_lora_need_not_fit_it(tmp_path: Path) -> None:
    folder = timm_snapshot(tmp_path / "vit")
    architecture = {"choice": ["cnn", str(folder)]}
    adaptation = {"choice": ["lora", "full"], "when": {"architecture": str(folder)}}
    space = lora_space(folder, architecture=architecture, adaptation=adaptation)
    assert len(check_architectures(space, (16, 16, 3))) == 1


def test_the_encoders_of_a_space_are_described_in_its_plan(shards: Path) -> None:
    conditional = {"choice": ["none"], "when": {"optimizer": "sgd"}}
    optimizer = {"choice": ["adamw", "sgd"]}
    hparams = {"folds": 2, "architecture": "uni", "optimizer": optimizer, "weights": conditional}
    space = parse_space({**TREE, "space": hparams}, "x")
    assert set(space.weights_of("uni")) == {"none", "pretrained"}
    (encoder,) = encoders_of(space)
    assert encoder == ENCODERS["uni"]
    pretrained, copies = pretraining_notes(space)
    assert pretrained.startswith("uni was pretrained on slides of Mass General Brigham and GTEx; ")
    assert copies.startswith("the license of uni forbids copies, ")
    only_frozen = {"folds": 2, "architecture": "uni", "adaptation": "frozen"}
    frozen = parse_space({**TREE, "space": only_frozen}, "x")
    assert pretraining_notes(frozen) == [pretrained]
    assert [each.license for each in licenses_of_weights(space)] == ["cc-by-nc-nd-4.0"]
    plan = replace(make_plan(parse_space(TREE, "x"), "x", str(shards))[0], encoders=(encoder,))
    assert load_plan(plan.dump()) == plan
    other = replace(plan, encoders=(replace(encoder, mean=(0.5, 0.5, 0.5)),))
    with pytest.raises(StudyError, match="encoder uni was "):
        reject_changes(plan, other)
