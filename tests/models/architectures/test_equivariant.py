import pytest
import torch

from raysearch.models.architectures.networks import build_network
from raysearch.models.dihedral import dihedral_transform


@pytest.mark.parametrize("side", [24, 25, 50, 52])
def test_the_logits_of_p4m_are_invariant_to_the_dihedral_transforms(side: int) -> None:
    torch.manual_seed(0)
    net = build_network("p4m", (side, side, 3), 2, {"width": 3}).eval()
    for layer in net.modules():
        if isinstance(layer, torch.nn.BatchNorm3d) and layer.running_mean is not None:
            torch.nn.init.uniform_(layer.running_mean, -0.1, 0.1)
    batch = torch.randn(2, 3, side, side)
    cnn = build_network("cnn", (side, side, 3), 2, {"width": 3}).eval()
    with torch.inference_mode():
        logits, cnn_logits = net(batch), cnn(batch)
        assert float((logits[0] - logits[1]).abs().max()) > 1e-3
        for index in range(1, 8):
            transformed = dihedral_transform(batch, index)
            assert torch.allclose(net(transformed), logits, atol=1e-5)
            assert not torch.allclose(cnn(transformed), cnn_logits, atol=1e-5)
