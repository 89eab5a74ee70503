import pytest
import torch

from raysearch.models.architectures.networks import build_network
from raysearch.models.classifier import PatchClassifier, normalize_pixels
from raysearch.models.dihedral import TEST_TIME_AUGMENTATIONS
from raysearch.models.preprocessing import PREPROCESSINGS

SHAPE = (50, 50, 3)


def test_normalized_pixels_are_between_minus_one_and_one() -> None:
    pixels = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 4, 4)
    batch = normalize_pixels(pixels)
    assert batch.shape == (2, 3, 4, 4)
    assert torch.unique(batch[0]).tolist() == [-1.0]
    assert torch.unique(batch[1]).tolist() == pytest.approx([1.0])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "tta"),
    [
        ("benchmark", "none"),
        ("cnn", "none"),
        ("cnn", "dihedral"),
        ("mobilenet_v3_small", "none"),
        ("p4m", "none"),
    ],
)
def test_an_exported_classifier_accepts_any_batch_size(name: str, tta: str) -> None:
    torch.manual_seed(0)
    net = TEST_TIME_AUGMENTATIONS[tta](build_network(name, SHAPE, 2, {}))
    model = PatchClassifier(net, PREPROCESSINGS["none"]()).eval()
    two_patches = torch.randint(0, 256, (2, *SHAPE), dtype=torch.uint8)
    five_patches = torch.randint(0, 256, (5, *SHAPE), dtype=torch.uint8)
    batch_size = torch.export.Dim("batch", min=1, max=4096)
    exported = torch.export.export(model, (two_patches,), dynamic_shapes=({0: batch_size},))
    exported_model = exported.module()
    with torch.inference_mode():
        for patches in (two_patches, five_patches):
            probabilities = exported_model(patches)
            assert torch.allclose(probabilities, model(patches), atol=1e-6)
            assert torch.allclose(probabilities.sum(1), torch.ones(len(patches)))
