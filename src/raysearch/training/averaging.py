"""An exponential moving average of a model, which judges in its place."""

from __future__ import annotations

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

# A step counts more while few were made: the average forgets the weights it began with.
FIRST, LATER = 1, 10


def averaged(model: nn.Module, decay: float) -> AveragedModel | None:
    """The average of `model` after each step, of which `decay` is kept; None where that is 0.

    Of the first steps less is kept, (1 + n) / (10 + n) after n, as in TensorFlow's average.
    """
    if not decay:
        return None

    def follow(before: Tensor, now: Tensor, steps: Tensor | int) -> Tensor:
        kept = min(decay, (FIRST + int(steps)) / (LATER + int(steps)))
        return before * kept + now * (1 - kept)

    return AveragedModel(model, avg_fn=follow, use_buffers=True)
