from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from raysearch.data.shards.patches import load_patches
from raysearch.data.shards.sharding import write_shards
from raysearch.models.preprocessing import PREPROCESSINGS
from raysearch.models.preprocessing.stain_normalization import (
    macenko_normalize,
    macenko_stains,
    optical_density,
    reinhard_normalize,
    reinhard_statistics,
    tissue_mask,
)

Floats = NDArray[np.float64]
STAINS = np.array([[0.65, 0.70, 0.29], [0.15, 0.95, 0.27]])
STAINS /= np.linalg.norm(STAINS, axis=1, keepdims=True)


def stained_patches(concentrations: Floats, stains: Floats) -> Tensor:
    """Return patches with `concentrations` (B, H, W, 2) of `stains` (2, 3)."""
    pixels = 255 * np.exp(-concentrations @ stains)
    return torch.from_numpy(pixels.round().clip(0, 255).astype(np.uint8))


def sample_concentrations(seed: int, num_patches: int = 4) -> Floats:
    """Sample pixels of one stain, of the other, and of both; a corner is glass."""
    rng = np.random.default_rng(seed)
    concentrations = rng.uniform(0.3, 1.5, (num_patches, 40, 40, 2))
    kind = rng.integers(0, 3, (num_patches, 40, 40))
    concentrations[kind == 0, 0] = concentrations[kind == 1, 1] = 0
    concentrations[:, :10, :10] = 0
    return concentrations


def test_macenkos_method_estimates_the_stains_of_a_synthetic_patch() -> None:
    patches = stained_patches(sample_concentrations(1), STAINS)
    estimated = macenko_stains(patches).numpy()
    assert np.abs(estimated[:, :6].reshape(-1, 2, 3) - STAINS).max() < 0.02
    assert np.abs(estimated[:, 6:] - 1.48).max() < 0.06
    target = macenko_stains(patches[:1])[0]
    normalized = macenko_normalize(patches[:1], target)
    assert (normalized.int() - patches[:1].int()).abs().max() <= 3


@pytest.mark.parametrize(
    ("measure", "normalize"),
    [(macenko_stains, macenko_normalize), (reinhard_statistics, reinhard_normalize)],
)
def test_a_patch_of_another_scanner_gets_the_colors_of_the_target(
    measure: Callable[[Tensor], Tensor], normalize: Callable[[Tensor, Tensor], Tensor]
) -> None:
    other_stains = np.array([[0.55, 0.75, 0.37], [0.05, 0.90, 0.43]])
    other_stains /= np.linalg.norm(other_stains, axis=1, keepdims=True)
    reference = stained_patches(sample_concentrations(2), STAINS)
    patches = stained_patches(0.7 * sample_concentrations(2), other_stains)
    normalized = normalize(patches, measure(reference).nanmedian(dim=0).values)
    reference_mean, mean, normalized_mean = (
        pixels.double().mean((1, 2)) for pixels in (reference, patches, normalized)
    )
    before, after = (values - reference_mean for values in (mean, normalized_mean))
    assert before.abs().mean() > 15
    assert after.abs().mean() < before.abs().mean() / 4
    assert (normalized[:, :10, :10] >= 254).all()  # glass


def test_macenkos_method_does_not_depend_on_the_order_of_pixels() -> None:
    patches = stained_patches(sample_concentrations(3), STAINS)
    order = torch.randperm(1600, generator=torch.Generator().manual_seed(0))
    shuffled = patches.view(-1, 1600, 3)[:, order].view_as(patches)
    assert torch.allclose(macenko_stains(shuffled), macenko_stains(patches), atol=1e-9)


@pytest.mark.parametrize("method", ["reinhard", "macenko"])
def test_stain_normalization_reduces_the_differences_between_real_patients(
    shared: Path, tmp_path: Path, method: str
) -> None:
    write_shards(str(shared / "data" / "idc.tar"), tmp_path / "idc", "idc", workers=2)
    patches = load_patches(str(tmp_path / "idc"))
    pixels = torch.from_numpy(np.array(patches.pixels)).view(-1, *patches.shape)[::4]
    patients = patches.patients[::4]
    preprocessing = PREPROCESSINGS[method]()
    preprocessing.fit(pixels[:: len(pixels) // 256])
    normalized = torch.cat([preprocessing(batch) for batch in torch.split(pixels, 128)])
    tissue = tissue_mask(optical_density(pixels.flatten(1, 2)))
    num_tissue_pixels = tissue.sum(dim=1).numpy()
    names = [name for name in np.unique(patients) if num_tissue_pixels[patients == name].any()]

    def color_deviation(pixels: Tensor, mask: Tensor) -> float:
        """Return the standard deviation of the mean color in `mask` (B, P) between patients."""
        sums = (pixels.flatten(1, 2) * mask[..., None]).sum(dim=1).double().numpy()
        counts = mask.sum(dim=1).numpy()
        means = [sums[patients == name].sum(0) / counts[patients == name].sum() for name in names]
        return float(np.std(means, axis=0).mean())

    assert color_deviation(normalized, tissue) < color_deviation(pixels, tissue) / 2
    all_pixels = torch.ones_like(tissue)  # patients also differ in the amount of glass
    assert color_deviation(normalized, all_pixels) < color_deviation(pixels, all_pixels)
