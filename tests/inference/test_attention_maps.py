"""Maps of the attention to the patches of a slide."""

import numpy as np
import pytest

from raysearch.inference.attention_maps import BACKGROUND, attention_image, attention_ranks
from raysearch.inference.image_rendering import viridis


def test_each_patch_has_the_color_of_its_rank_at_its_position() -> None:
    positions = np.array([[1000, 500], [1256, 500], [1512, 756]], np.int32)
    attention = np.array([0.01, 0.95, 0.04], np.float32)
    image = attention_image(positions, attention)
    assert attention_ranks(attention).tolist() == [0.0, 1.0, 0.5]
    side = image.shape[0] // 2
    assert image.shape == (2 * side, 3 * side, 3)
    colors = viridis(np.array([0.0, 1.0, 0.5], np.float32))
    cells = image[side // 2 :: side, side // 2 :: side]
    assert np.array_equal(cells[0, 0], colors[0])
    assert np.array_equal(cells[0, 1], colors[1])
    assert np.array_equal(cells[1, 2], colors[2])
    assert (cells[1, 0] == BACKGROUND).all()


def test_a_large_slide_and_a_slide_with_one_patch_have_a_map() -> None:
    numbers = np.arange(10_000)
    large = np.stack([256 * (numbers % 5000), 256 * (numbers // 5000)], axis=1).astype(np.int32)
    assert max(attention_image(large, np.ones(10_000, np.float32)).shape) <= 1000
    single = attention_image(np.array([[7, 9]], np.int32), np.ones(1, np.float32))
    assert single.shape[0] == single.shape[1]
    far = np.array([[0, 0], [1, 0], [2 * 10**9, 0]], np.int32)
    assert max(attention_image(far, np.ones(3, np.float32)).shape) <= 1001


@pytest.mark.parametrize(
    ("attention", "ranks"),
    [([0.25] * 4, [0.0] * 4), ([0.0, 0.0, 0.5, 0.5], [0, 0, 1, 1]), ([0.1, 0.3, 0.1], [0, 1, 0])],
)
def test_equal_attention_has_one_rank(attention: list[float], ranks: list[float]) -> None:
    noise = 1 + 1e-7 * np.arange(len(attention), dtype=np.float32)
    assert attention_ranks(np.array(attention, np.float32) * noise).tolist() == ranks
