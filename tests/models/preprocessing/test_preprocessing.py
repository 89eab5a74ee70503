import pytest
import torch

from raysearch.models.preprocessing import PREPROCESSINGS, StainNormalization
from raysearch.training.preprocessed_pixels import build_preprocessing
from support.random_patches import random_patches

METHODS = [name for name in PREPROCESSINGS if name != "none"]


@pytest.mark.parametrize("method", METHODS)
def test_each_patch_is_transformed_independently_into_a_new_tensor(method: str) -> None:
    patches = torch.cat([random_patches(5) // 2, random_patches(5) // 3 + 100])
    original = patches.clone()
    preprocessing = build_preprocessing({"preprocess": method})
    preprocessing.fit(patches)
    transformed = preprocessing(patches)
    assert torch.equal(patches, original)
    assert transformed.dtype == torch.uint8
    assert transformed.shape == patches.shape
    assert not torch.equal(transformed, patches)
    one_by_one = torch.cat([preprocessing(patch) for patch in torch.split(patches, 1)])
    assert torch.equal(one_by_one, transformed)


@pytest.mark.parametrize("method", METHODS)
def test_patches_without_tissue_are_accepted(method: str) -> None:
    colors = torch.tensor([[0, 0, 0], [255, 255, 255], [128, 128, 128], [180, 90, 160]])
    flat = colors.to(torch.uint8)[:, None, None].expand(4, 12, 12, 3)
    striped = flat[1:2].clone()
    striped[:, :, ::2] = torch.tensor([150, 80, 160], dtype=torch.uint8)
    patches = torch.cat([flat, striped])
    preprocessing = build_preprocessing({"preprocess": method})
    preprocessing.fit(random_patches() // 2)
    transformed = preprocessing(patches)
    assert transformed.shape == patches.shape
    if not isinstance(preprocessing, StainNormalization):
        return
    assert torch.equal(transformed[:4], flat)
    without_stain = build_preprocessing({"preprocess": method})
    without_stain.fit(flat)
    assert torch.equal(without_stain(random_patches()), random_patches())
