"""A network and a metric for a search."""

from typing import Annotated

import numpy as np
from pydantic import Field
from torch import nn


def build(
    shape,
    num_classes,
    *,
    depth: Annotated[int, Field(ge=1, le=5, description="Blocks that halve the side")] = 3,
    width,
    dropout,
):
    """Build a CNN whose blocks have `width` channels each."""
    blocks = []
    for number in range(depth):
        channels = width if number else shape[2]
        convolution = nn.Conv2d(channels, width, 3, stride=2, padding=1)
        blocks += [convolution, nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(
        *blocks,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(dropout or 0.0),
        nn.Linear(width, num_classes),
    )


def sensitivity_at_95_specificity(labels, probabilities):
    """Return the largest recall of class 1 among thresholds with a specificity of .95 or more."""
    negatives = probabilities[labels == 0, 1]
    positives = probabilities[labels == 1, 1]
    if not len(negatives) or not len(positives):
        return float("nan")
    return float(np.mean(positives > np.quantile(negatives, 0.95)))
