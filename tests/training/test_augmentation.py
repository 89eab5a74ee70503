"""Augmentations: what is drawn, what it does to a patch, and what it leaves alone."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from raysearch.training.augmentation import (
    STAINS,
    Augmentation,
    colour_jittered,
    cutout,
    stain_jittered,
)

SIDES = [(50, 50), (24, 36)]


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def smooth(height: int, width: int) -> Tensor:
    """One patch (1, 3, H, W): waves of about a third of the side, from -1 to 1."""
    down, across = torch.meshgrid(
        torch.linspace(0, 6, height), torch.linspace(0, 6, width), indexing="ij"
    )
    waves = [torch.sin(down + phase) * torch.cos(across - phase) for phase in (0.0, 1.0, 2.0)]
    return torch.stack(waves).unsqueeze(0)


@pytest.mark.parametrize("shape", SIDES)
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
def test_an_augmentation_changes_patches_and_stays_within_their_range(
    shape: tuple[int, int], hparams: dict[str, Any]
) -> None:
    batch = smooth(*shape).expand(6, -1, -1, -1)
    part = Augmentation(**{"augment": "none", **hparams})
    first, again, other = part(batch, drawn()), part(batch, drawn()), part(batch, drawn(1))
    assert first.shape == batch.shape
    assert first.dtype == torch.float32
    assert -1.001 <= float(first.min()) <= float(first.max()) <= 1.001
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)
    assert all(not torch.allclose(one, batch[0], atol=1e-3) for one in first)
    assert not torch.allclose(first[0], first[1])


def test_no_augmentation_leaves_a_batch_as_it_is() -> None:
    batch = smooth(20, 20)
    assert Augmentation(augment="none")(batch, drawn()) is batch


def test_a_quarter_turn_by_the_grid_is_that_of_the_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "raysearch.training.augmentation.uniform", lambda shape, most, _: torch.full(shape, most)
    )
    batch = smooth(20, 20)
    for angle, turns in ((90.0, 1), (180.0, 2)):
        moved = Augmentation(augment="none", rotation=angle)(batch, drawn())
        assert torch.allclose(moved, batch.rot90(turns, (2, 3)), atol=1e-4)
    # Half a turn of a patch that is not square is itself upside down.
    long = smooth(12, 30)
    half = Augmentation(augment="none", rotation=180.0)(long, drawn())
    assert torch.allclose(half, long.flip(2, 3), atol=1e-4)


def test_a_shift_is_a_share_of_the_side_and_a_reflection_comes_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "raysearch.training.augmentation.uniform", lambda shape, most, _: torch.full(shape, most)
    )
    batch = smooth(20, 20)
    moved = Augmentation(augment="none", shift=0.25)(batch, drawn())
    assert torch.allclose(moved[:, :, :15, :15], batch[:, :, 5:, 5:], atol=1e-4)
    assert torch.allclose(moved[:, :, :15, 15:], batch[:, :, 5:, 15:].flip(3), atol=1e-4)


def test_turns_and_zooms_are_about_the_middle() -> None:
    point = torch.zeros(2_000, 3, 31, 31)
    point[:, :, 15, 15] = 1.0
    moved = Augmentation(augment="none", zoom=0.5, rotation=180.0)(point, drawn())
    # The middle stays where it is, whatever the zoom and the angle.
    assert bool((moved[:, :, 15, 15] > 0.99).all())


def test_stain_jitter_changes_the_density_of_one_stain_as_that_of_its_pixels() -> None:
    stains = np.array(STAINS) / np.linalg.norm(STAINS, axis=1, keepdims=True)
    amounts = np.random.default_rng(0).uniform(0.1, 0.5, (10 * 10, 3))
    colours = np.exp(-amounts @ stains).T.reshape(1, 3, 10, 10)
    batch = torch.from_numpy(colours * 2 - 1).float()
    changed = stain_jittered(batch, 0.2, drawn())
    density = -np.log((changed.numpy()[0].reshape(3, -1).T + 1) / 2)
    found = density @ np.linalg.inv(stains)
    for stain in range(3):
        slope, offset = np.polyfit(amounts[:, stain], found[:, stain], 1)
        assert 0.8 <= slope <= 1.2
        assert slope != pytest.approx(1, abs=1e-4)
        assert abs(offset) <= 0.02
        assert found[:, stain] == pytest.approx(slope * amounts[:, stain] + offset, abs=1e-3)


def test_colour_jitter_leaves_grey_grey_and_its_mean_within_the_strength() -> None:
    grey = torch.linspace(-0.4, 0.4, 100).reshape(1, 1, 10, 10).expand(8, 3, 10, 10)
    changed = colour_jittered(grey, 0.2, drawn())
    assert torch.allclose(changed.std(dim=1), torch.zeros(8, 10, 10), atol=1e-5)
    brightness = ((changed.mean(dim=(1, 2, 3)) + 1) / 2) / 0.5
    assert bool(((brightness - 1).abs() <= 0.2001).all())
    assert float(brightness.std()) > 0.01


@pytest.mark.parametrize("shape", SIDES)
def test_cut_out_greys_one_square_of_its_share_at_most(shape: tuple[int, int]) -> None:
    height, width = shape
    holes = cutout(torch.ones(200, 3, height, width), 0.4, drawn()) == 0
    assert bool((holes.all(dim=1) == holes.any(dim=1)).all())
    rows, columns = holes[:, 0].any(dim=2).sum(dim=1), holes[:, 0].any(dim=1).sum(dim=1)
    assert int(rows.max()) <= 0.4 * height + 1
    assert int(columns.max()) <= 0.4 * width + 1
    assert torch.equal(holes[:, 0].sum(dim=(1, 2)), rows * columns)
    assert bool((rows > 0).all())
