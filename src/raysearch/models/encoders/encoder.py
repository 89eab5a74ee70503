"""The description of a pretrained encoder: how it is built, what it takes, and where it is from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from raysearch.config.hyperparameter_spec import Value

# Mean and standard deviation of ImageNet in red, green and blue.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Library = Literal["timm", "transformers"]
# The embedding of a patch: what the model itself returns, its class token, the mean of its patch
# tokens, or the class token followed by that mean.
TokenPooling = Literal["model", "class", "mean", "class_mean"]
# An argument of a model.
Argument = Value | tuple[Value, ...] | None


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """A pretrained encoder.

    Attributes:
        name: Its name in the table, or the hyperparameter `architecture` otherwise.
        library: The library that builds it.
        model: The name of the model in timm, or the `model_type` of transformers.
        arguments: What differs from the defaults of that model: arguments of timm's
            `create_model`, of which `mlp_layer` and `act_layer` are names, or fields of the
            configuration of transformers.
        pooling: The embedding of a patch that its authors recommend.
        input_size: The side of the input that it was trained with, in pixels.
        mean, std: Mean and standard deviation of red, green and blue in [0, 1] by which its input
            is standardized.
        num_parameters: The number of its parameters; 0 if unknown.
        num_entries: The length of its state dictionary; 0 if unknown.
        repository: Its repository on Hugging Face's hub; empty if it has none.
        license: The name of the license of its weights; empty if unknown.
        is_gated: Whether access to the weights must be asked for.
        pretrained_on: The data that it was trained on, as far as they are published.
    """

    name: str
    library: Library
    model: str
    arguments: Mapping[str, Argument] = field(default_factory=dict)
    pooling: TokenPooling = "model"
    input_size: int = 224
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    num_parameters: int = 0
    num_entries: int = 0
    repository: str = ""
    license: str = ""
    is_gated: bool = False
    pretrained_on: str = ""

    def __hash__(self) -> int:
        return hash((self.name, self.model, tuple(sorted(self.arguments))))

    @property
    def page(self) -> str:
        """The web page of the weights, where access is asked for; empty if there is none."""
        return f"https://huggingface.co/{self.repository}" if self.repository else ""
