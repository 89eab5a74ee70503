"""The space files of a launch that names none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

FINETUNE = Path(__file__).with_name("finetune.yaml")
SCRATCH = Path(__file__).with_name("scratch.yaml")
# The networks whose ImageNet weights are searched for, the preferred one first, and the overrides
# of `finetune.yaml` for each. timm gives the new head of an EfficientNet with two classes so large
# weights that a few epochs do not correct them; a head of this program has small ones.
FINE_TUNED: Mapping[str, tuple[str, ...]] = {
    "mobilenet_v2": (),
    "timm:tf_efficientnet_lite0": (
        "space.architecture=timm:tf_efficientnet_lite0",
        "space.head_dropout=0.2",
    ),
}
# The smallest and the largest side of the input: patches with a side between them keep it.
INPUT_SIDES = (96, 224)
