"""Snapshots of a small encoder, as Hugging Face's hub has them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from raysearch.models.encoders.encoder import Encoder
from raysearch.models.encoders.encoder_table import ENCODERS
from raysearch.models.encoders.snapshots import encoder_of
from raysearch.models.timm_models import timm_library

# The arguments of UNI2-h, with fewer and narrower blocks.
SMALL_UNI2 = {
    "patch_size": 14,
    "depth": 2,
    "num_heads": 2,
    "embed_dim": 32,
    "mlp_ratio": 5.33334,
    "reg_tokens": 8,
    "no_embed_class": True,
    "init_values": 1e-5,
    "dynamic_img_size": True,
}
CONFIG: Mapping[str, Any] = {
    "architecture": "vit_giant_patch14_224",
    "num_classes": 0,
    "num_features": 32,
    "global_pool": "token",
    "model_args": {"img_size": 56, "num_classes": 0, **SMALL_UNI2},
    "pretrained_cfg": {
        "input_size": [3, 56, 56],
        "mean": [0.7, 0.5, 0.6],
        "std": [0.2, 0.3, 0.2],
        "license": "cc-by-nc-nd-4.0",
    },
}


def small_uni2() -> nn.Module:
    """What the folder of `write_snapshot` holds, built by timm as the model card says."""
    timm = timm_library()
    torch.manual_seed(1)
    net: nn.Module = timm.create_model(
        "vit_giant_patch14_224",
        img_size=56,
        num_classes=0,
        mlp_layer=timm.layers.SwiGLUPacked,
        act_layer=nn.SiLU,
        **SMALL_UNI2,
    )
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.1)
    return net.eval()


def write_snapshot(folder: Path, config: Mapping[str, Any], state: object) -> Path:
    """Write a folder as the hub has it; a bare state goes to a file of safetensors."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    if isinstance(state, dict) and all(isinstance(value, Tensor) for value in state.values()):
        save_file(state, folder / "model.safetensors")
    else:
        torch.save(state, folder / "pytorch_model.bin")
    return folder


def gated_encoder(weights: Path, monkeypatch: pytest.MonkeyPatch) -> Encoder:
    """Replace `uni2-h` of the table by a small encoder, whose snapshot is in the folder `weights`.

    Its license and its access are those of UNI2-h.
    """
    folder = write_snapshot(weights / "UNI2-h", CONFIG, small_uni2().state_dict())
    described, listed = encoder_of(str(folder)), ENCODERS["uni2-h"]
    small = replace(
        described,
        name="uni2-h",
        repository=listed.repository,
        license=listed.license,
        is_gated=listed.is_gated,
        pretrained_on=listed.pretrained_on,
    )
    monkeypatch.setitem(cast("dict[str, Encoder]", ENCODERS), "uni2-h", small)
    monkeypatch.setenv("RAYSEARCH_WEIGHTS", str(weights))
    return small
