"""Small pretrained transformers in folders of snapshots, and configurations of trials by LoRA."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import AutoModel, ViTConfig

from raysearch.config.hyperparameter_spec import Value
from raysearch.models.timm_models import timm_library
from raysearch.models.transfer.pretrained_weights import weights_hash
from raysearch.training.train_config import TrainConfig
from support.recorded_training import small_config

# Both have two blocks of width 16, whose perceptrons have 32 hidden units.
WIDTH, HIDDEN, NUM_BLOCKS = 16, 32, 2
SIDE, PATCH_SIDE = 28, 14
TIMM_ARGUMENTS = {"depth": NUM_BLOCKS, "embed_dim": WIDTH, "num_heads": 2, "mlp_ratio": 2.0}
TIMM_ARGUMENTS |= {"patch_size": PATCH_SIDE}
# What `small_config` has for another network.
CNN_ONLY = ("width", "convolutions")


def timm_snapshot(folder: Path) -> Path:
    """Write the folder of a small vision transformer of timm, with fused queries, keys, values."""
    torch.manual_seed(1)
    net: nn.Module = timm_library().create_model(
        "vit_tiny_patch16_224", img_size=SIDE, num_classes=0, **TIMM_ARGUMENTS
    )
    config = {
        "architecture": "vit_tiny_patch16_224",
        "num_classes": 0,
        "global_pool": "token",
        "model_args": TIMM_ARGUMENTS,
        "pretrained_cfg": {"input_size": [3, SIDE, SIDE]},
    }
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(net.state_dict(), folder / "model.safetensors")
    return folder


def transformers_snapshot(folder: Path) -> Path:
    """Write the folder of a small ViT of transformers, with separate queries, keys, values."""
    torch.manual_seed(1)
    sizes: dict[str, Any] = {"image_size": SIDE, "patch_size": PATCH_SIDE}
    sizes |= {"hidden_size": WIDTH, "num_hidden_layers": NUM_BLOCKS, "num_attention_heads": 2}
    config = ViTConfig(intermediate_size=HIDDEN, **sizes)
    AutoModel.from_config(config).save_pretrained(folder)
    return folder


SNAPSHOTS = {"timm": timm_snapshot, "transformers": transformers_snapshot}


def lora_config(folder: Path, **hparams: Value) -> TrainConfig:
    """Return the configuration of a trial that adapts the snapshot in `folder` by LoRA."""
    architecture = str(folder)
    values: dict[str, Value] = {"architecture": architecture, "adaptation": "lora", **hparams}
    config = small_config(**values)
    read = {name: value for name, value in config.hparams.items() if name not in CNN_ONLY}
    return replace(config, hparams=read, weights_hash=weights_hash(architecture, "pretrained"))
