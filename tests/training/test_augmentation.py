from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from raysearch.config.hyperparameter_spec import Value
from raysearch.config.hyperparameters import resolve
from raysearch.training.augmentation import (
    STAINS,
    Augmentation,
    cutout,
    jitter_colors,
    jitter_stains,
)

SHAPES = [(50, 50), (24, 36)]
NO_AUGMENTATION = Augmentation.from_params(resolve({"augment": "none"}))


def new_rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def smooth_patch(height: int, width: int) -> Tensor:
    """Return one patch (1, 3, H, W) of waves of about a third of the side, in [-1, 1]."""
    y, x = torch.meshgrid(torch.linspace(0, 6, height), torch.linspace(0, 6, width), indexing="ij")
    waves = [torch.sin(y + phase) * torch.cos(x - phase) for phase in (0.0, 1.0, 2.0)]
    return torch.stack(waves).unsqueeze(0)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "hparams",
    [
        {"shift": 0.3},
        {"zoom": 0.5},
        {"rotation": 180.0},
        {"color_jitter": 0.5},
        {"stain_jitter": 0.5},
        {"cutout": 0.5},
        {"augment": "dihedral", "shift": 0.1, "rotation": 20, "stain_jitter": 0.1, "cutout": 0.2},
    ],
)
def test_an_augmentation_changes_patches_and_keeps_their_range(
    shape: tuple[int, int], hparams: dict[str, Value]
) -> None:
    batch = smooth_patch(*shape).expand(6, -1, -1, -1)
    augment = Augmentation.from_params(resolve({"augment": "none", **hparams}))
    first, second = augment(batch, new_rng()), augment(batch, new_rng())
    with_other_seed = augment(batch, new_rng(1))
    assert first.shape == batch.shape
    assert first.dtype == torch.float32
    assert -1.001 <= float(first.min()) <= float(first.max()) <= 1.001
    assert torch.equal(first, second)
    assert not torch.allclose(first, with_other_seed)
    assert all(not torch.allclose(patch, batch[0], atol=1e-3) for patch in first)
    assert not torch.allclose(first[0], first[1])


def test_no_augmentation_returns_the_same_tensor() -> None:
    batch = smooth_patch(20, 20)
    assert NO_AUGMENTATION(batch, new_rng()) is batch


@pytest.fixture
def max_strength(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every random number the largest one."""
    monkeypatch.setattr(
        "raysearch.training.augmentation.uniform", lambda shape, limit, _: torch.full(shape, limit)
    )


@pytest.mark.usefixtures("max_strength")
def test_a_rotation_by_quarter_turns_equals_that_of_the_pixels() -> None:
    batch = smooth_patch(20, 20)
    for angle, quarter_turns in ((90.0, 1), (180.0, 2)):
        rotated = replace(NO_AUGMENTATION, rotation=angle)(batch, new_rng())
        assert torch.allclose(rotated, batch.rot90(quarter_turns, (2, 3)), atol=1e-4)
    # A half turn keeps the shape of a patch that is not square.
    wide = smooth_patch(12, 30)
    rotated = replace(NO_AUGMENTATION, rotation=180.0)(wide, new_rng())
    assert torch.allclose(rotated, wide.flip(2, 3), atol=1e-4)


@pytest.mark.usefixtures("max_strength")
def test_a_shift_is_a_fraction_of_the_side_and_is_filled_by_reflection() -> None:
    batch = smooth_patch(20, 20)
    shifted = replace(NO_AUGMENTATION, shift=0.25)(batch, new_rng())
    assert torch.allclose(shifted[:, :, :15, :15], batch[:, :, 5:, 5:], atol=1e-4)
    assert torch.allclose(shifted[:, :, :15, 15:], batch[:, :, 5:, 15:].flip(3), atol=1e-4)


def test_rotation_and_zoom_keep_the_center() -> None:
    point = torch.zeros(2_000, 3, 31, 31)
    point[:, :, 15, 15] = 1.0
    augmented = replace(NO_AUGMENTATION, zoom=0.5, rotation=180.0)(point, new_rng())
    assert bool((augmented[:, :, 15, 15] > 0.99).all())


def test_stain_jitter_is_linear_in_the_density_of_each_stain() -> None:
    stains = np.array(STAINS) / np.linalg.norm(STAINS, axis=1, keepdims=True)
    densities = np.random.default_rng(0).uniform(0.1, 0.5, (10 * 10, 3))
    colors = np.exp(-densities @ stains).T.reshape(1, 3, 10, 10)
    batch = torch.from_numpy(colors * 2 - 1).float()
    jittered = jitter_stains(batch, 0.2, new_rng())
    optical_density = -np.log((jittered.numpy()[0].reshape(3, -1).T + 1) / 2)
    jittered_densities = optical_density @ np.linalg.inv(stains)
    for stain in range(3):
        x, y = densities[:, stain], jittered_densities[:, stain]
        slope, offset = np.polyfit(x, y, 1)
        assert 0.8 <= slope <= 1.2
        assert slope != pytest.approx(1, abs=1e-4)
        assert abs(offset) <= 0.02
        assert y == pytest.approx(slope * x + offset, abs=1e-3)


def test_color_jitter_keeps_gray_and_limits_the_change_of_brightness() -> None:
    gray = torch.linspace(-0.4, 0.4, 100).reshape(1, 1, 10, 10).expand(8, 3, 10, 10)
    jittered = jitter_colors(gray, 0.2, new_rng())
    assert torch.allclose(jittered.std(dim=1), torch.zeros(8, 10, 10), atol=1e-5)
    brightness = ((jittered.mean(dim=(1, 2, 3)) + 1) / 2) / 0.5
    assert bool(((brightness - 1).abs() <= 0.2001).all())
    assert float(brightness.std()) > 0.01


@pytest.mark.parametrize("shape", SHAPES)
def test_cutout_erases_one_square_of_its_fraction_of_the_side(shape: tuple[int, int]) -> None:
    height, width = shape
    erased = cutout(torch.ones(200, 3, height, width), 0.4, new_rng()) == 0
    assert bool((erased.all(dim=1) == erased.any(dim=1)).all())
    num_rows = erased[:, 0].any(dim=2).sum(dim=1)
    num_columns = erased[:, 0].any(dim=1).sum(dim=1)
    assert int(num_rows.max()) <= 0.4 * height + 1
    assert int(num_columns.max()) <= 0.4 * width + 1
    assert torch.equal(erased[:, 0].sum(dim=(1, 2)), num_rows * num_columns)
    assert bool((num_rows > 0).all())
