"""State dictionaries as they are published: nested, with prefixes and with other heads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from raysearch.errors import DataError, SpaceError
from raysearch.models.architectures.networks import build_network, build_with_weights
from raysearch.models.transfer.input_normalization import unwrap
from raysearch.models.transfer.network_layers import head_name

SHAPE = (32, 32, 3)
HPARAMS = {"width": 4, "convolutions": 1}
State = Mapping[str, Tensor]


def prefixed(state: State, prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}{name}": value for name, value in state.items()}


LAYOUTS: dict[str, Callable[[State], object]] = {
    "bare": dict,
    "parallel": lambda state: {"epoch": 3, "state_dict": prefixed(state, "module.")},
    "model": lambda state: {"model": dict(state), "optimizer": {"lr": 0.1}},
    "teacher": lambda state: {
        "student": prefixed(state, "module.backbone.") | {"module.head.mlp.weight": torch.zeros(2)},
        "teacher": prefixed(state, "backbone.") | {"dino_head.mlp.0.weight": torch.zeros(2, 2)},
    },
    "nested": lambda state: {"model": {"state_dict": prefixed(state, "net.")}},
    "another head": lambda state: {**state, "head.weight": torch.zeros(9, 4)},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("suffix", [".pth", ".bin"])
def test_each_layout_of_a_file_gives_the_same_weights(
    tmp_path: Path, layout: str, suffix: str
) -> None:
    torch.manual_seed(1)
    pretrained = unwrap(build_network("cnn", SHAPE, 2, HPARAMS)).state_dict()
    path = tmp_path / f"weights{suffix}"
    torch.save(LAYOUTS[layout](pretrained), path)
    net = unwrap(build_with_weights("cnn", SHAPE, 2, {**HPARAMS, "weights": str(path)}))
    head = head_name(net, 2)
    for name, value in net.state_dict().items():
        assert torch.equal(value, pretrained[name]) == (not name.startswith(head)), name


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    state = dict(unwrap(build_network("cnn", SHAPE, 2, HPARAMS)).state_dict())
    names = sorted(state)
    for name in names[:4]:
        del state[name]
    state |= {f"extra.{number}": torch.zeros(1) for number in range(5)}
    state["4.weight"] = torch.zeros(5, 5)
    torch.save(state, tmp_path / "other.pt")
    with pytest.raises(SpaceError) as caught:
        build_with_weights("cnn", SHAPE, 2, {**HPARAMS, "weights": str(tmp_path / "other.pt")})
    message = str(caught.value)
    assert f"4 missing: {', '.join(names[:3])};" in message
    assert "5 unexpected: extra.0, extra.1, extra.2;" in message
    assert "1 of another shape: 4.weight (5, 5) instead of (8, 4, 3, 3)" in message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model": {"epoch": 3}}, "holds no state dictionary"),
        ({}, "holds no state dictionary"),
        ({"model": {"a": torch.tensor([1.0, float("nan")])}}, "a has numbers that are not finite"),
        ({"a": torch.tensor([1.0, float("inf")])}, "a has numbers that are not finite"),
    ],
)
def test_a_file_without_usable_weights_is_rejected(
    tmp_path: Path, content: object, message: str
) -> None:
    torch.save(content, tmp_path / "weights.bin")
    with pytest.raises(DataError, match=message):
        build_with_weights("cnn", SHAPE, 2, {"weights": str(tmp_path / "weights.bin")})


def test_a_truncated_file_is_rejected_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(dict(unwrap(build_network("cnn", SHAPE, 2, HPARAMS)).state_dict()), path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(DataError, match="cannot be read") as caught:
        build_with_weights("cnn", SHAPE, 2, {**HPARAMS, "weights": str(path)})
    assert "\n" not in str(caught.value)
