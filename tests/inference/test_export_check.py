"""An exported model is compared with its model, whatever the size of the batch."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from raysearch.errors import StudyError
from raysearch.inference.check_patches import PatchSet
from raysearch.inference.export_check import BATCH_SIZE, compare
from raysearch.inference.model_loading import predict_proba
from support.source_images import synthetic_patches
from support.untrained_models import SIDE, untrained_model

PATCHES = PatchSet("patches of images", synthetic_patches(BATCH_SIZE + 4, SIDE))


def test_the_largest_difference_is_found_in_any_batch() -> None:
    model = untrained_model()
    sizes = []

    def exported(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        probabilities = predict_proba(model, pixels.reshape(len(pixels), -1)).astype(np.float32)
        sizes.append(len(pixels))
        if len(sizes) == 3:
            probabilities[-1] += 5e-6
        return probabilities

    (comparison,) = compare(model, exported, [PATCHES])
    assert sizes == [1, BATCH_SIZE, 3]
    assert comparison.max_difference == pytest.approx(5e-6, abs=1e-6)
    assert str(comparison) == f"{BATCH_SIZE + 4} patches of images"
    single = PatchSet("one", PATCHES.pixels[:1])
    (comparison,) = compare(model, exported, [single])
    assert comparison.num_patches == 1
    assert comparison.max_difference <= 1e-6


@pytest.mark.parametrize("difference", [2e-5, float("nan")])
def test_a_larger_difference_and_an_undefined_one_are_errors(difference: float) -> None:
    model = untrained_model()

    def exported(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        probabilities = predict_proba(model, pixels.reshape(len(pixels), -1)).astype(np.float32)
        return np.asarray(probabilities + np.float32(difference))

    message = "differ by .* for 20 patches of images, more than 1e-05; use the registered model"
    with pytest.raises(StudyError, match=message):
        compare(model, exported, [PATCHES])
