import numpy as np
import torch

from raysearch.models.preprocessing.lab import from_lab, to_lab


def test_lab_equals_published_values_and_is_inverted_without_a_loss() -> None:
    colors = torch.tensor([[255, 255, 255], [255, 0, 0], [0, 0, 0]], dtype=torch.uint8)
    expected = torch.tensor([[100, 0, 0], [53.24, 80.09, 67.20], [0, 0, 0]], dtype=torch.float64)
    assert torch.allclose(to_lab(colors), expected, atol=0.01)
    random_pixels = np.random.default_rng(3).integers(0, 256, (6, 20, 17, 3), np.uint8)
    pixels = torch.from_numpy(random_pixels)
    assert torch.equal(from_lab(to_lab(pixels)), pixels)
