"""What is done to the pixels before a net sees them: the same to all, and told by learned ones."""

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import mlflow
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from raysearch.champion.model_artifact import pack_artifact
from raysearch.champion.registration import champion_of
from raysearch.config.space_file import parse_space
from raysearch.data.patches import load_patches
from raysearch.data.shards.sharding import write_shards
from raysearch.errors import SpaceError
from raysearch.inference.model_loading import load_model, score
from raysearch.models.preprocessing import PREPROCESSINGS, StainNormalisation, macenko, reinhard
from raysearch.models.preprocessing.clahe import equalised_levels
from raysearch.models.preprocessing.filters import blurred, median, sharpened
from raysearch.models.preprocessing.lab import from_lab, to_lab
from raysearch.models.preprocessing.tissue import densities, tissue_of
from raysearch.search.engine import worker_tasks as worker
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.plan import make_plan
from raysearch.search.study.study import Study, create_study
from raysearch.search.study.trial_data import train_config, training_data
from raysearch.search.tracking.model_registry import register_champion
from raysearch.search.tracking.tracker import Tracker
from raysearch.training.checkpoint import unpack
from raysearch.training.fold_training import FoldRun
from raysearch.training.loop import probabilities, train
from raysearch.training.preprocessed_pixels import prepared, preprocessing_of
from raysearch.training.train_config import TrainConfig
from raysearch.training.training_data import AuxiliaryRows, TrainingData
from support.recorded_training import HPARAMS, Recorder, config

FITTED = [name for name, part in PREPROCESSINGS.items() if isinstance(part(), StainNormalisation)]
WORKING = [name for name in PREPROCESSINGS if name != "none"]


def noise(count: int = 6, height: int = 20, width: int = 17) -> Tensor:
    drawn = np.random.default_rng(3).integers(0, 256, (count, height, width, 3), np.uint8)
    return torch.from_numpy(drawn)


def tissue(amounts: NDArray[np.float64], stains: NDArray[np.float64]) -> Tensor:
    """Patches of the density `amounts` (B, H, W, 2) of `stains` (2, 3)."""
    pixels = 255 * np.exp(-amounts @ stains)
    return torch.from_numpy(pixels.round().clip(0, 255).astype(np.uint8))


def by_opencv(change: Callable[[Any], Any], patches: Tensor) -> NDArray[np.int64]:
    return np.stack([change(one) for one in patches.numpy()]).astype(np.int64)


def test_sharpening_is_cut_off_at_both_ends_and_reflects_at_the_border() -> None:
    grey = torch.tensor([[10, 20, 30], [40, 200, 60], [70, 80, 90]], dtype=torch.uint8)
    found = sharpened(grey[None, :, :, None].expand(1, 3, 3, 3))[0, :, :, 0]
    # Top left: 5 * 10 - 2 * 40 - 2 * 20, which is below 0; bottom right: 450 - 2 * 60 - 2 * 80.
    # The middle: 1000 - 20 - 40 - 60 - 80, which is above 255.
    assert found.tolist() == [[0, 0, 0], [0, 255, 0], [110, 0, 170]]


def test_filters_are_those_of_opencv() -> None:
    patches = noise()
    kernel = np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0]], np.float32)
    theirs = by_opencv(lambda one: cv2.filter2D(one, -1, kernel), patches)
    assert np.array_equal(sharpened(patches).numpy(), theirs)
    theirs = by_opencv(lambda one: cv2.medianBlur(one, 3), patches)
    assert np.array_equal(median(patches).numpy(), theirs)
    for sigma, size in ((0.5, 5), (1.0, 7), (2.0, 13)):
        blur = by_opencv(partial(cv2.GaussianBlur, ksize=(size, size), sigmaX=sigma), patches)
        apart = np.abs(blurred(patches, sigma).numpy().astype(np.int64) - blur)
        assert apart.max() <= 2  # OpenCV's kernel is of 8 bits
        assert apart.mean() < 0.3


@pytest.mark.parametrize("side", [(50, 50), (48, 48), (33, 70)])
@pytest.mark.parametrize(("clip", "tiles"), [(2.0, 4), (40.0, 8), (0.1, 1)])
def test_equalisation_of_grey_levels_is_that_of_opencv(
    side: tuple[int, int], clip: float, tiles: int
) -> None:
    grey = np.random.default_rng(0).integers(60, 200, (4, *side), np.uint8)
    theirs = cv2.createCLAHE(clip, (tiles, tiles))
    found = equalised_levels(torch.from_numpy(grey).long(), clip, tiles).numpy()
    assert np.array_equal(found, np.stack([theirs.apply(one) for one in grey]))


def test_equalisation_changes_lightness_and_hardly_the_colour() -> None:
    patches = (noise() // 4) + 90
    found = PREPROCESSINGS["clahe"](clahe_clip=4.0)(patches)
    before, after = to_lab(patches), to_lab(found)
    assert after[..., 0].std() > 2 * before[..., 0].std()
    assert (after - before)[..., 1:].abs().mean() < 0.5


def test_lab_is_known_for_some_colours_and_comes_back_to_the_bit() -> None:
    colours = torch.tensor([[255, 255, 255], [255, 0, 0], [0, 0, 0]], dtype=torch.uint8)
    known = torch.tensor([[100, 0, 0], [53.24, 80.09, 67.20], [0, 0, 0]], dtype=torch.float64)
    assert torch.allclose(to_lab(colours), known, atol=0.01)
    assert torch.equal(from_lab(to_lab(noise())), noise())


@pytest.mark.parametrize("name", WORKING)
def test_each_patch_is_changed_for_itself_and_the_pixels_given_stay(name: str) -> None:
    patches = torch.cat([noise(5) // 2, noise(5) // 3 + 100])
    given = patches.clone()
    step = PREPROCESSINGS[name]()
    step.fit(patches)
    found = step(patches)
    assert torch.equal(patches, given)
    assert found.dtype == torch.uint8
    assert found.shape == patches.shape
    assert not torch.equal(found, patches)
    alone = torch.cat([step(one) for one in torch.split(patches, 1)])
    assert torch.equal(alone, found)


@pytest.mark.parametrize("name", WORKING)
def test_patches_that_hold_nothing_go_through(name: str) -> None:
    flat = torch.tensor([[0, 0, 0], [255, 255, 255], [128, 128, 128], [180, 90, 160]])
    flat = flat.to(torch.uint8)[:, None, None].expand(4, 12, 12, 3)
    striped = flat[1:2].clone()
    striped[:, :, ::2] = torch.tensor([150, 80, 160], dtype=torch.uint8)
    patches = torch.cat([flat, striped])
    step = PREPROCESSINGS[name]()
    step.fit(noise() // 2)
    found = step(patches)
    assert found.shape == patches.shape
    if name in FITTED:
        assert torch.equal(found[:4], flat)
    unfitted = PREPROCESSINGS[name]()
    unfitted.fit(flat)  # of which no stain can be told
    if name in FITTED:
        assert torch.equal(unfitted(noise()), noise())


STAINS = np.array([[0.65, 0.70, 0.29], [0.15, 0.95, 0.27]])
STAINS /= np.linalg.norm(STAINS, axis=1, keepdims=True)


def amounts(seed: int, count: int = 4) -> NDArray[np.float64]:
    """Nuclei, stroma, and what is of both, with a corner of glass."""
    random = np.random.default_rng(seed)
    found = random.uniform(0.3, 1.5, (count, 40, 40, 2))
    kind = random.integers(0, 3, (count, 40, 40))
    found[kind == 0, 0] = found[kind == 1, 1] = 0
    found[:, :10, :10] = 0
    return found


def test_macenkos_method_finds_the_stains_that_a_patch_was_made_of() -> None:
    patches = tissue(amounts(1), STAINS)
    found = macenko.measured(patches).numpy()
    assert np.abs(found[:, :6].reshape(-1, 2, 3) - STAINS).max() < 0.02
    assert np.abs(found[:, 6:] - 1.48).max() < 0.06
    target = macenko.measured(patches[:1])[0]
    assert (macenko.normalised(patches[:1], target).int() - patches[:1].int()).abs().max() <= 3


@pytest.mark.parametrize("kind", [macenko, reinhard])
def test_a_patch_of_another_scanner_comes_back_to_what_the_target_looks_like(kind: Any) -> None:
    turned = np.array([[0.55, 0.75, 0.37], [0.05, 0.90, 0.43]])
    turned /= np.linalg.norm(turned, axis=1, keepdims=True)
    here = tissue(amounts(2), STAINS)
    there = tissue(0.7 * amounts(2), turned)
    target = kind.measured(here).nanmedian(dim=0).values
    found = kind.normalised(there, target)
    aim, *others = (one.double().mean((1, 2)) for one in (here, there, found))
    before, after = (one - aim for one in others)
    assert before.abs().mean() > 15
    assert after.abs().mean() < before.abs().mean() / 4
    assert (found[:, :10, :10] >= 254).all()  # glass


def test_macenkos_method_is_the_same_for_pixels_in_another_order() -> None:
    patches = tissue(amounts(3), STAINS)
    order = torch.randperm(1600, generator=torch.Generator().manual_seed(0))
    mixed = patches.view(-1, 1600, 3)[:, order].view_as(patches)
    assert torch.allclose(macenko.measured(mixed), macenko.measured(patches), atol=1e-9)


def of_hparams(**hparams: Any) -> TrainConfig:
    return TrainConfig({**HPARAMS, **hparams}, epochs=2, metric="auroc", seed=5)


def test_without_pre_processing_nothing_is_copied(data: TrainingData) -> None:
    assert prepared(of_hparams(), data, 0)[1] is data


@pytest.mark.parametrize("name", WORKING)
def test_a_fold_has_the_processed_pixels_of_all_that_it_uses(
    data: TrainingData,
    name: str,
) -> None:
    further = (AuxiliaryRows(data.pixels.flip(0)[:30], data.labels.flip(0)[:30]),)
    with_further = dataclasses.replace(data, further=further)
    before = data.pixels.clone()
    run = FoldRun(of_hparams(preprocess=name), with_further, 1)
    whole = run.preprocessing(data.pixels.view(-1, *data.shape)).reshape(len(data.pixels), -1)
    assert torch.equal(run.data.pixels, whole)
    assert torch.equal(run.data.further[0].pixels, whole.flip(0)[:30])
    assert torch.equal(data.pixels, before)
    assert not torch.equal(whole, before)


@pytest.mark.parametrize("name", FITTED)
def test_pixels_of_judged_and_auxiliary_patients_change_nothing_that_is_learned(
    data: TrainingData,
    name: str,
) -> None:
    learned, judged = data.folds[0]
    further = (AuxiliaryRows(data.pixels[:20] // 2, data.labels[:20]),)

    def run(pixels: Tensor, further: tuple[AuxiliaryRows, ...] = ()) -> FoldRun:
        other = dataclasses.replace(data, pixels=pixels, further=further)
        return FoldRun(of_hparams(preprocess=name), other, 0)

    first = run(data.pixels)
    target = first.preprocessing.state_dict()["target"]
    assert target.isfinite().all()
    changed = data.pixels.clone()
    changed[judged] = 255 - changed[judged]
    for second in (run(changed), run(data.pixels, further)):
        assert torch.equal(second.preprocessing.state_dict()["target"], target)
        assert torch.equal(second.data.pixels[learned], first.data.pixels[learned])
    changed = data.pixels.clone()
    changed[learned] = changed[learned] // 2
    assert not torch.equal(run(changed).preprocessing.state_dict()["target"], target)


@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_trial_that_goes_on_has_the_same_pre_processing(
    data: TrainingData,
    after: int,
) -> None:
    whole, begun, rest = Recorder(), Recorder(after), Recorder()
    train(config(preprocess="macenko"), data, whole)
    with pytest.raises(InterruptedError):
        train(config(preprocess="macenko"), data, begun)
    train(config(preprocess="macenko"), data, rest, unpack(begun.states[-1]))
    assert begun.numbers() + rest.numbers() == whole.numbers()
    plain = Recorder()
    train(config(), data, plain)
    assert plain.numbers() != whole.numbers()


def test_a_hyperparameter_of_a_pre_processing_that_the_space_does_not_have_is_rejected() -> None:
    tree = {"space": {"preprocess": {"choice": ["none", "gaussian"]}, "blur_sigma": 1.0}}
    with pytest.raises(SpaceError, match=r"blur_sigma: nothing reads it.* add `when: {prepr"):
        parse_space(tree, "x")
    tree["space"] = {"preprocess": {"choice": {"none": {}, "gaussian": {"blur_sigma": 1.0}}}}
    assert len(parse_space(tree, "x").hparams) == 2


def refitted(shards: Path, place: Path, **hparams: Any) -> tuple[Study, FoldRun]:
    """A study whose champion was refitted by the worker, and the same training that judges."""
    hparams = {**HPARAMS, **hparams}
    space = parse_space({"epochs": 2, "trials": 1, "space": {"folds": 2, **hparams}}, "x")
    plan, splits = make_plan(space, place.name, str(shards))
    study = create_study(StudyFolder(place), plan, splits)
    study.begin()
    trial = study.start("t0000", "trial", hparams)
    job = worker.Job(study.folder.address, str(shards), "t0000", hparams, 7, 2, 0, 1.0)
    worker.refit_job(job)
    study.crown(trial, {})
    cpu = torch.device("cpu")
    own = training_data(study.folder.address, str(shards), "cpu", 2, 1.0)
    everyone = np.arange(len(own.labels), dtype=np.int64)
    own = dataclasses.replace(own, folds=((everyone, everyone),))
    run = FoldRun(train_config(plan, hparams, 7, cpu), own, 0)
    for epoch in range(2):
        run.learn(epoch)
    return study, run


@pytest.mark.parametrize("name", PREPROCESSINGS)
def test_the_champion_sees_what_its_training_saw(shards: Path, tmp_path: Path, name: str) -> None:
    study, run = refitted(shards, tmp_path / "x", preprocess=name)
    model = champion_of(study.folder, study.plan, study.history)[1]
    patches = torch.from_numpy(np.array(load_patches(str(shards)).pixels))
    with torch.inference_mode():
        found = model(patches.view(-1, *study.plan.shape)).numpy()
    assert np.abs(found - probabilities(run.judge(averaged=True).logits)).max() < 1e-5
    if name != "none":
        model.preprocessing = preprocessing_of({})
        with torch.inference_mode():
            other = model(patches.view(-1, *study.plan.shape)).numpy()
        assert np.abs(other - found).max() > 1e-3


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", WORKING)
def test_the_registered_champion_sees_what_its_training_saw(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    study, run = refitted(shards, tmp_path / "x", preprocess=name)
    patches = np.array(load_patches(str(shards)).pixels).reshape(-1, *study.plan.shape)
    store = f"sqlite:///{tmp_path}/mlflow.db"
    tracker = Tracker(study.plan, store)
    recipe, model = champion_of(study.folder, study.plan, study.history)
    facts = {"trial": recipe.trial}
    version = register_champion(
        tracker, "x", model, patches[:2], facts, pack_artifact(recipe, model)
    )
    tracker.close("FINISHED", 60.0)
    mlflow.set_tracking_uri(store)
    found = mlflow.pyfunc.load_model(f"models:/x/{version}").predict(patches)
    assert np.abs(found - probabilities(run.judge(averaged=True).logits)).max() < 1e-5
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    loaded = load_model(f"models:/x/{version}", "")
    assert np.abs(found - score(loaded, patches.reshape(len(patches), -1))).max() < 1e-5


@pytest.mark.parametrize("name", FITTED)
def test_real_patients_are_more_alike_in_colour_afterwards(
    shared: Path, tmp_path: Path, name: str
) -> None:
    write_shards(str(shared / "data" / "idc.tar"), tmp_path / "idc", "idc", workers=2)
    patches = load_patches(str(tmp_path / "idc"))
    pixels = torch.from_numpy(np.array(patches.pixels)).view(-1, *patches.shape)[::4]
    patients = patches.patients[::4]
    step = PREPROCESSINGS[name]()
    step.fit(pixels[:: len(pixels) // 256])
    found = torch.cat([step(some) for some in torch.split(pixels, 128)])

    seen = tissue_of(densities(pixels.flatten(1, 2)))

    def spread(pixels: Tensor, within: Tensor) -> float:
        """Between the patients' mean colours, of the pixels that are `within` (B, P)."""
        sums = (pixels.flatten(1, 2) * within[..., None]).sum(dim=1).double().numpy()
        counts = within.sum(dim=1).numpy()
        each = [sums[patients == one].sum(0) / counts[patients == one].sum() for one in names]
        return float(np.std(each, axis=0).mean())

    names = [one for one in np.unique(patients) if seen.sum(dim=1).numpy()[patients == one].any()]
    assert spread(found, seen) < spread(pixels, seen) / 2
    everywhere = torch.ones_like(seen)  # patients differ in how much glass there is, too
    assert spread(found, everywhere) < spread(pixels, everywhere)
