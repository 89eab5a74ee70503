import torch

from raysearch.models.architectures.networks import build_network
from raysearch.models.transfer.input_normalization import unwrap

SHAPE = (50, 50, 3)


def test_the_input_is_normalized_by_the_statistics_of_imagenet() -> None:
    torch.manual_seed(0)
    unnormalized = build_network("cnn", SHAPE, 2, {}).eval()
    net = build_network("cnn", SHAPE, 2, {"normalization": "imagenet"}).eval()
    unwrap(net).load_state_dict(unnormalized.state_dict())
    pixels = torch.rand(2, 3, 50, 50)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = unnormalized((pixels - mean.view(3, 1, 1)) / std.view(3, 1, 1))
    assert torch.allclose(net(pixels * 2 - 1), expected, atol=1e-5)
