"""LoRA is rejected before a study starts if it would have no effect."""

from pathlib import Path

import pytest

from raysearch.errors import SpaceError
from raysearch.models.architectures.adapter_check import check_adapters
from support.lora_networks import SNAPSHOTS

HPARAMS = {"adaptation": "lora", "lora_targets": "attention"}


@pytest.mark.parametrize("library", SNAPSHOTS)
@pytest.mark.parametrize("targets", ["attention", "mlp", "all"])
def test_transformers_are_accepted(tmp_path: Path, library: str, targets: str) -> None:
    folder = SNAPSHOTS[library](tmp_path / "vit")
    check_adapters(str(folder), (48, 48, 3), {**HPARAMS, "lora_targets": targets})


def test_layers_whose_weights_are_read_without_a_call_are_rejected() -> None:
    name = "timm:beit_base_patch16_224"
    with pytest.raises(SpaceError, match=r"it reads the weights of blocks\.0\.attn\.qkv") as error:
        check_adapters(name, (224, 224, 3), HPARAMS)
    assert str(error.value).endswith("choose `lora_targets: mlp`")
    check_adapters(name, (224, 224, 3), {**HPARAMS, "lora_targets": "mlp"})


def test_a_network_without_linear_layers_is_rejected_by_name() -> None:
    with pytest.raises(SpaceError, match="architecture resnet18: `adaptation: lora` needs blocks"):
        check_adapters("resnet18", (48, 48, 3), HPARAMS)
