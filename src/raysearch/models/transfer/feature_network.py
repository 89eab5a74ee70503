"""Networks of a frozen encoder, whose features a head classifies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from raysearch.errors import SpaceError
from raysearch.models import PatchShape
from raysearch.models.transfer.feature_heads import FeatureHead
from raysearch.models.transfer.network_layers import blocks, head_name

# The depths from which features are pooled, beside the last: fractions of the blocks.
DEPTHS = (0.25, 0.5, 0.75)
# The beginning of the names of the weights of the encoder of a `FeatureNetwork`.
EXTRACTOR = "extractor."


class FeatureExtractor(nn.Module):
    """A network without its head, and the pooling of its features.

    Args:
        net: The network with its head, which is replaced by the identity.
        num_classes: The number of its logits.
        is_multi_depth: Whether features of several depths precede those that the head would take.

    Raises:
        SpaceError: If the network does not end in a linear layer.
    """

    def __init__(self, net: nn.Module, num_classes: int, *, is_multi_depth: bool) -> None:
        super().__init__()
        path = head_name(net, num_classes)
        if not path:
            raise SpaceError(
                "the net does not end in a linear layer, so that it has no features; choose"
                " `adaptation: full`"
            )
        layers = [name for name, _layer in blocks(net, path)]
        self.depths = (
            sorted({layers[int(depth * len(layers))] for depth in DEPTHS}, key=layers.index)
            if is_multi_depth
            else []
        )
        # Some transformers have feature maps (B, h, w, C).
        self.is_channels_last = getattr(net, "output_fmt", "") == "NHWC"
        parent, _, name = path.rpartition(".")
        net.get_submodule(parent).add_module(name, nn.Identity())
        self.net = net

    def forward(self, batch: Tensor) -> Tensor:
        """Return the features (B, D) of a batch (B, 3, H, W)."""
        with _outputs(self.net, self.depths) as outputs:
            features: Tensor = self.net(batch)
        pooled = [self._pooled(outputs[name]) for name in self.depths]
        return torch.cat([*pooled, features.flatten(1)], dim=1) if pooled else features.flatten(1)

    def _pooled(self, output: Tensor) -> Tensor:
        """Return the means (B, C) of feature maps (B, C, h, w), or of tokens (B, T, C).

        Those of feature maps of a group convolution (B, C, G, h, w) are (B, C * G).
        """
        if output.ndim == 5:
            return output.mean(dim=(3, 4)).flatten(1)
        if output.ndim == 4:
            return output.mean(dim=(1, 2) if self.is_channels_last else (2, 3))
        return output.mean(dim=1) if output.ndim == 3 else output.flatten(1)

    def width(self, shape: PatchShape) -> int:
        """Return the number of features of an input of `shape` (H, W, 3).

        The network must be on the meta device, which computes shapes only.
        """
        height, width, channels = shape
        with torch.device("meta"), torch.inference_mode():
            features: Tensor = self.eval()(torch.empty(2, channels, height, width))
        return features.shape[1]


@contextmanager
def _outputs(net: nn.Module, names: list[str]) -> Iterator[Mapping[str, Tensor]]:
    """Yield the outputs of the layers `names`, by name, once the network has run."""
    outputs: dict[str, Tensor] = {}

    def recorder(name: str) -> Any:
        def record(_layer: nn.Module, _inputs: object, output: object) -> None:
            # Layers of transformers return tuples.
            value = output[0] if isinstance(output, tuple) else output
            if isinstance(value, Tensor):
                outputs[name] = value

        return record

    hooks = [net.get_submodule(name).register_forward_hook(recorder(name)) for name in names]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


class FeatureNetwork(nn.Module):
    """A frozen encoder, and a head over its features.

    Args:
        extractor: The encoder, behind the resizing and normalization of its input.
        head: The head.
    """

    def __init__(self, extractor: nn.Module, head: FeatureHead) -> None:
        super().__init__()
        self.extractor = extractor
        self.head = head

    def forward(self, batch: Tensor) -> Tensor:
        """Return the logits (B, classes) of a batch (B, 3, H, W) in [-1, 1]."""
        logits: Tensor = self.head(as_stored(self.extractor(batch)).float())
        return logits


def extractor_prefixes(module: nn.Module) -> tuple[str, ...]:
    """Return the beginnings of the names of all weights of frozen encoders in `module`."""
    return tuple(
        f"{path}.{EXTRACTOR}".removeprefix(".")
        for path, part in module.named_modules()
        if isinstance(part, FeatureNetwork)
    )


def without_extractors(module: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state dictionary of `module` without the weights of its frozen encoders."""
    prefixes = extractor_prefixes(module)
    return {name: value for name, value in state.items() if not name.startswith(prefixes)}


def with_extractors(
    module: nn.Module, state: Mapping[str, Tensor], extractor_state: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return what `without_extractors` returned with the weights of its frozen encoders.

    Args:
        module: The module, possibly on the meta device.
        state: Its state dictionary without the weights of its frozen encoders.
        extractor_state: Those of one `FeatureNetwork`, under names that begin with `extractor.`.
    """
    added = {
        f"{prefix.removesuffix(EXTRACTOR)}{name}": value
        for prefix in extractor_prefixes(module)
        for name, value in extractor_state.items()
    }
    return {**state, **added}


def reuse_extractor(module: nn.Module, other: nn.Module) -> None:
    """Let the networks in `module` use the frozen encoder of the one in `other`."""
    shared = next(part for part in other.modules() if isinstance(part, FeatureNetwork))
    for part in module.modules():
        if isinstance(part, FeatureNetwork):
            part.extractor = shared.extractor


def as_stored(features: Tensor) -> Tensor:
    """Return `features` in the precision in which they are stored: float16."""
    return features.half()
