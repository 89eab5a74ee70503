"""Resizes the patches to the side that a network takes, on the device of the network."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from raysearch.errors import SpaceError
from raysearch.models import PatchShape

PAD = "pad"


class ResizedInput(nn.Module):
    """A network behind the resizing of its input.

    Args:
        net: The network.
        size: The side of its input, in pixels.
        resize: `bilinear` or `bicubic` interpolation, with an antialiasing filter if the input is
            smaller than the patch; `pad` to repeat the pixels of the border.
    """

    def __init__(self, net: nn.Module, size: int, resize: str) -> None:
        super().__init__()
        self.net = net
        self.size, self.resize = size, resize

    def forward(self, batch: Tensor) -> Tensor:
        """Return the logits (B, classes) of a batch (B, 3, H, W) in [-1, 1]."""
        logits: Tensor = self.net(resized(batch, self.size, self.resize))
        return logits


def resized(batch: Tensor, size: int, resize: str) -> Tensor:
    """Return `batch` (B, 3, H, W) in [-1, 1] as (B, 3, size, size) in [-1, 1]."""
    height, width = batch.shape[2:]
    if (height, width) == (size, size):
        return batch
    if resize == PAD:
        top, left = (size - height) // 2, (size - width) // 2
        margins = (left, size - width - left, top, size - height - top)
        return functional.pad(batch, margins, mode="replicate")
    is_reduced = size < max(height, width)
    # Half precision has no antialiasing kernel on a CPU.
    values = functional.interpolate(
        batch.float(), (size, size), mode=resize, align_corners=False, antialias=is_reduced
    )
    # Bicubic interpolation overshoots at edges.
    return (values.clamp(-1, 1) if resize == "bicubic" else values).to(batch.dtype)


def input_shape(shape: PatchShape, size: int, resize: str) -> PatchShape:
    """Return the shape (H, W, 3) of the input of a network for patches of `shape`.

    Args:
        shape: The patch shape (H, W, 3).
        size: The hyperparameter `input_size`; 0 for the side of the patches.
        resize: The hyperparameter `resize`.

    Raises:
        SpaceError: If patches are larger than an input to which they are padded.
    """
    height, width, channels = shape
    if not size:
        return shape
    if resize == PAD and max(height, width) > size:
        raise SpaceError(
            f"input_size {size}: patches of {width}x{height} cannot be padded to it; choose"
            f" `input_size` {max(height, width)} or more, or `resize` bilinear"
        )
    return size, size, channels


def with_input_size(
    net: nn.Module, shape: PatchShape, net_shape: PatchShape, resize: str
) -> nn.Module:
    """Add the resizing of patches of `shape` to `net`, unless its input has that shape."""
    return net if shape == net_shape else ResizedInput(net, net_shape[0], resize)
