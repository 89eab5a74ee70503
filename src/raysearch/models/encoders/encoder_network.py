"""Networks of a pretrained encoder and a linear head."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from raysearch.config.telemetry import turn_off_telemetry
from raysearch.errors import SpaceError, first_line
from raysearch.models import PatchShape
from raysearch.models.encoders.encoder import Encoder, TokenPooling
from raysearch.models.patch_limits import MIN_PATCH_SIDE
from raysearch.models.timm_models import image_size_options, timm_library

# The types of models that transformers builds, and whose embedding is known here.
TRANSFORMERS_MODELS = ("deit", "dinov2", "dinov2_with_registers", "vit")
# Those that have a pooling layer, which is not part of the encoder.
PLAIN_TYPES = ("deit", "vit")

# The arguments of timm's `create_model` that name sources of weights, or change what is returned.
REJECTED_ARGUMENTS = frozenset(
    (
        *("model_name", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay"),
        *("checkpoint_path", "cache_dir", "scriptable", "exportable", "no_jit"),
        *("features_only", "out_indices", "in_chans"),
    )
)
# A description beyond these is no encoder of images.
MAX_DEPTH, MAX_ARGUMENT, MAX_INPUT_SIZE = 100, 100_000, 4096
NUM_CHANNELS = 3
# The classes of layers that an argument can name, of timm and of torch.
LAYERS: Mapping[str, tuple[str, ...]] = {
    "mlp_layer": ("GluMlp", "Mlp", "SwiGLU", "SwiGLUPacked"),
    "act_layer": ("GELU", "ReLU", "SiLU"),
}
# The fields of a configuration that describe a network. Others can name code of a repository.
TRANSFORMERS_FIELDS = frozenset(
    (
        *("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"),
        *("hidden_act", "hidden_dropout_prob", "attention_probs_dropout_prob", "qkv_bias"),
        *("layer_norm_eps", "layerscale_value", "drop_path_rate", "mlp_ratio", "use_swiglu_ffn"),
        *("image_size", "patch_size", "num_channels", "num_register_tokens"),
    )
)


class EncoderNetwork(nn.Module):
    """An encoder, the pooling of its tokens, and a linear layer.

    Args:
        encoder: A model of timm without a classifier, or a model of transformers.
        width: The number of values of a token.
        num_prefix_tokens: The tokens before those of the patches: class token and registers.
        pooling: How an embedding is made from the tokens.
        num_classes: The number of logits.
    """

    def __init__(
        self,
        encoder: nn.Module,
        width: int,
        num_prefix_tokens: int,
        pooling: TokenPooling,
        num_classes: int,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.pooling, self.num_prefix_tokens = pooling, num_prefix_tokens
        self.head = nn.Linear(2 * width if pooling == "class_mean" else width, num_classes)

    def forward(self, batch: Tensor) -> Tensor:
        """Return the logits (B, classes) of a batch (B, 3, H, W)."""
        logits: Tensor = self.head(self.embed(batch))
        return logits

    def embed(self, batch: Tensor) -> Tensor:
        """Return the embeddings (B, D) of a batch (B, 3, H, W)."""
        if self.pooling == "model":
            embeddings: Tensor = self.encoder(batch)
            return embeddings
        tokens = self._tokens(batch)
        class_token = tokens[:, 0]
        if self.pooling == "class":
            return class_token
        mean = tokens[:, self.num_prefix_tokens :].mean(dim=1)
        return mean if self.pooling == "mean" else torch.cat([class_token, mean], dim=1)

    def _tokens(self, batch: Tensor) -> Tensor:
        """Return the tokens (B, T, D) after the last normalization."""
        encoder: Any = self.encoder
        if hasattr(encoder, "forward_features"):
            tokens: Tensor = encoder.forward_features(batch)
            # Of models whose own pooling is the mean, the last normalization is after it.
            if isinstance(getattr(encoder, "fc_norm", None), nn.LayerNorm):
                tokens = encoder.fc_norm(tokens)
        else:
            # The other types always interpolate their position embeddings.
            is_plain = encoder.config.model_type in PLAIN_TYPES
            options = {"interpolate_pos_encoding": True} if is_plain else {}
            tokens = encoder(pixel_values=batch, **options).last_hidden_state
        return tokens


def encoder_network(
    encoder: Encoder, shape: PatchShape, num_classes: int, pooling: TokenPooling | None = None
) -> EncoderNetwork:
    """Build the network of an encoder with random weights.

    Args:
        encoder: Its description.
        shape: The shape of its input (H, W, 3).
        num_classes: The number of logits.
        pooling: How an embedding is made from the tokens; by default as its authors recommend.

    Raises:
        SpaceError: If the library has no such model, the model has no tokens to pool, or its grid
            of patches does not divide the input.
    """
    pooling = pooling or encoder.pooling
    _check_description(encoder)
    build = _timm_encoder if encoder.library == "timm" else _transformers_encoder
    try:
        return build(encoder, shape, num_classes, pooling)
    except SpaceError:
        raise
    except Exception as error:  # both libraries raise any class for wrong arguments
        raise SpaceError(
            f"architecture {encoder.name}: {encoder.library} cannot build {encoder.model}"
            f" ({first_line(error, 100)}); check its config.json"
        ) from None


def _check_description(encoder: Encoder) -> None:
    """Raise SpaceError if a value of a description, which a stranger may have written, is unusable.

    Modules take time and memory even if their weights are not allocated.
    """
    numbers = [value for value in encoder.arguments.values() if isinstance(value, (int, float))]
    statistics = (*encoder.mean, *encoder.std)
    checks = {
        "mean and std": len(encoder.mean) == len(encoder.std) == NUM_CHANNELS
        and all(map(math.isfinite, statistics))
        and min(encoder.std) > 0,
        "input size": MIN_PATCH_SIDE <= encoder.input_size <= MAX_INPUT_SIZE,
        "arguments": all(map(math.isfinite, numbers)) and max(numbers, default=0) <= MAX_ARGUMENT,
        "depth": all(
            isinstance(value, int) and 0 < value <= MAX_DEPTH
            for name in ("depth", "num_hidden_layers")
            for value in [encoder.arguments.get(name, 1)]
        ),
    }
    for name, is_usable in checks.items():
        if not is_usable:
            raise SpaceError(
                f"architecture {encoder.name}: the {name} of its config.json cannot be used; copy"
                " it again"
            )


def check_patch_grid(name: str, shape: PatchShape, patch_size: int | tuple[int, int]) -> None:
    """Raise SpaceError if the patches of a transformer do not divide its input.

    Args:
        name: The architecture.
        shape: The shape of its input (H, W, 3).
        patch_size: The side of its patches in pixels, or their height and width.
    """
    sides = (patch_size, patch_size) if isinstance(patch_size, int) else patch_size
    height, width, _channels = shape
    if height % sides[0] or width % sides[1]:
        multiple = max(sides[0], round(max(height, width) / sides[0]) * sides[0])
        raise SpaceError(
            f"architecture {name} cannot take an input of {width}x{height}: it cuts it in squares"
            f" of {sides[0]}; choose a multiple as `input_size`, such as {multiple}"
        )


def _module_class(encoder: Encoder, library: object, name: str) -> object:
    """Return the class of layers that an argument of `encoder` names."""
    value = encoder.arguments[name]
    if value not in LAYERS[name]:
        raise SpaceError(
            f"architecture {encoder.name}: its {name} is {value!r}; known are"
            f" {', '.join(LAYERS[name])}"
        )
    return getattr(library, str(value))


def _timm_encoder(
    encoder: Encoder, shape: PatchShape, num_classes: int, pooling: TokenPooling
) -> EncoderNetwork:
    timm = timm_library()
    if not timm.is_model(encoder.model):
        raise SpaceError(
            f"architecture {encoder.name}: timm {timm.__version__} has no model {encoder.model};"
            " update timm, or choose another"
        )
    arguments: dict[str, Any] = dict(encoder.arguments)
    rejected = sorted(REJECTED_ARGUMENTS & arguments.keys())
    if rejected:
        raise SpaceError(
            f"architecture {encoder.name}: its arguments have {', '.join(rejected)}; remove it from"
            " config.json"
        )
    for name, library in (("mlp_layer", timm.layers), ("act_layer", nn)):
        if name in arguments:
            arguments[name] = _module_class(encoder, library, name)
    arguments |= image_size_options(encoder.model, shape)
    model: Any = timm.create_model(encoder.model, pretrained=False, num_classes=0, **arguments)
    patch_size = getattr(getattr(model, "patch_embed", None), "patch_size", None)
    if patch_size is not None:
        check_patch_grid(encoder.name, shape, patch_size)
    num_prefix_tokens = getattr(model, "num_prefix_tokens", None)
    if pooling != "model" and num_prefix_tokens is None:
        raise SpaceError(f"architecture {encoder.name}: has no tokens; leave out `token_pooling`")
    if pooling in ("class", "class_mean") and getattr(model, "cls_token", None) is None:
        raise SpaceError(
            f"architecture {encoder.name}: has no class token; choose `token_pooling: mean`"
        )
    width = int(model.head_hidden_size if pooling == "model" else model.num_features)
    return EncoderNetwork(model, width, int(num_prefix_tokens or 0), pooling, num_classes)


def _transformers_encoder(
    encoder: Encoder, shape: PatchShape, num_classes: int, pooling: TokenPooling
) -> EncoderNetwork:
    if encoder.model not in TRANSFORMERS_MODELS:
        raise SpaceError(
            f"architecture {encoder.name}: models of the type {encoder.model!r} are not supported;"
            f" choose one of {', '.join(TRANSFORMERS_MODELS)}"
        )
    rejected = sorted(encoder.arguments.keys() - TRANSFORMERS_FIELDS)
    if rejected:
        raise SpaceError(
            f"architecture {encoder.name}: its configuration has {', '.join(rejected)}; remove it"
        )
    turn_off_telemetry()
    from transformers import AutoConfig, AutoModel

    config: Any = AutoConfig.for_model(encoder.model, **encoder.arguments)
    if config.num_channels != NUM_CHANNELS:
        raise SpaceError(
            f"architecture {encoder.name}: takes {config.num_channels} channels, not 3"
        )
    check_patch_grid(encoder.name, shape, config.patch_size)
    options = {"add_pooling_layer": False} if encoder.model in PLAIN_TYPES else {}
    model = AutoModel.from_config(config, **options)
    # DeiT also has a distillation token.
    num_prefix_tokens = 1 + getattr(config, "num_register_tokens", 0) + (encoder.model == "deit")
    token_pooling: TokenPooling = "class" if pooling == "model" else pooling
    width = int(config.hidden_size)
    return EncoderNetwork(model, width, num_prefix_tokens, token_pooling, num_classes)
