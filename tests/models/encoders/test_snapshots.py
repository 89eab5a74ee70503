"""Encoders from local folders, the cache of the hub, and files of weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModel, Dinov2Config, ViTConfig

from raysearch.config.hyperparameters import resolve
from raysearch.errors import DataError, SpaceError, UserError
from raysearch.models.architectures.networks import (
    build_network,
    build_with_weights,
    check_patch_shape,
    check_weights,
)
from raysearch.models.encoders.encoder_network import EncoderNetwork
from raysearch.models.encoders.encoder_table import ENCODERS
from raysearch.models.encoders.snapshots import encoder_of, snapshot_weights
from raysearch.models.timm_models import timm_library
from raysearch.models.transfer.input_normalization import NormalizedInput, unwrap
from support.encoder_snapshots import CONFIG, small_uni2, write_snapshot

SHAPE = (28, 28, 3)
# The sizes of a model of transformers.
SMALL_TRANSFORMER: Mapping[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}


@pytest.fixture(autouse=True)
def caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder with empty caches of this program and of the hub."""
    monkeypatch.setenv("RAYSEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("RAYSEARCH_WEIGHTS", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path


def embedded(architecture: str, hparams: Mapping[str, Any], batch: Tensor) -> Tensor:
    """The embeddings of the network with its weights, of a standardized batch."""
    net = unwrap(build_with_weights(architecture, SHAPE, 2, hparams)).eval()
    assert isinstance(net, EncoderNetwork)
    with torch.inference_mode():
        return net.embed(batch)


@pytest.mark.parametrize("layout", ["bare", "teacher"])
def test_a_folder_of_timm_gives_the_embeddings_of_its_model(tmp_path: Path, layout: str) -> None:
    pretrained = small_uni2()
    state: Any = pretrained.state_dict()
    if layout == "teacher":
        state = {"teacher": {f"backbone.{name}": value for name, value in state.items()}}
    folder = write_snapshot(tmp_path / "uni2", CONFIG, state)
    batch = torch.rand(2, 3, 56, 56)
    with torch.inference_mode():
        expected = pretrained(batch)
    assert torch.allclose(embedded(str(folder), {}, batch), expected, atol=1e-5)
    encoder = encoder_of(str(folder))
    assert (encoder.input_size, encoder.license) == (56, "cc-by-nc-nd-4.0")
    network = build_network(str(folder), SHAPE, 2, {})
    assert isinstance(network.net, NormalizedInput)
    assert network.net.mean == (0.7, 0.5, 0.6)


def test_another_input_size_interpolates_the_position_embeddings(tmp_path: Path) -> None:
    timm, pretrained = timm_library(), small_uni2()
    folder = write_snapshot(tmp_path / "uni2", CONFIG, pretrained.state_dict())
    batch = torch.rand(2, 3, 84, 84)
    with torch.inference_mode():
        # The model itself interpolates them at every pass.
        assert pretrained.dynamic_img_size
        expected = pretrained(batch)
    found = embedded(str(folder), {"input_size": 84}, batch)
    assert torch.allclose(found, expected, atol=1e-4), timm.__version__


@pytest.mark.parametrize("kind", ["vit", "dinov2"])
def test_a_folder_of_transformers_gives_the_embeddings_of_its_model(
    tmp_path: Path, kind: str
) -> None:
    config = (
        ViTConfig(**SMALL_TRANSFORMER, intermediate_size=32)
        if kind == "vit"
        else Dinov2Config(**SMALL_TRANSFORMER)
    )
    torch.manual_seed(1)
    pretrained = AutoModel.from_config(config).eval()
    pretrained.save_pretrained(tmp_path / kind)
    (tmp_path / kind / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25]})
    )
    batch = torch.rand(2, 3, 28, 28)
    with torch.inference_mode():
        expected = pretrained(pixel_values=batch).last_hidden_state
    assert torch.allclose(embedded(str(tmp_path / kind), {}, batch), expected[:, 0], atol=1e-5)
    pooled = embedded(str(tmp_path / kind), {"token_pooling": "mean"}, batch)
    assert torch.allclose(pooled, expected[:, 1:].mean(dim=1), atol=1e-5)
    assert encoder_of(str(tmp_path / kind)).std == (0.25, 0.25, 0.25)


@pytest.mark.parametrize("name", ["uni2-h", "UNI2-h", "MahmoodLab/UNI2-h"])
def test_a_snapshot_is_found_in_a_folder_of_the_user(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.setenv("RAYSEARCH_WEIGHTS", str(tmp_path / "weights"))
    folder = write_snapshot(tmp_path / "weights" / name, CONFIG, {"a": torch.zeros(1)})
    assert snapshot_weights("uni2-h") == folder / "model.safetensors"
    assert snapshot_weights("hf-hub:MahmoodLab/UNI2-h") == folder / "model.safetensors"
    assert encoder_of("hf-hub:MahmoodLab/UNI2-h") == ENCODERS["uni2-h"]


def test_a_repository_is_found_in_the_cache_of_the_hub(caches: Path) -> None:
    folder = caches / "hub/models--someone--net"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs/main").write_text("0" * 40)
    write_snapshot(folder / "snapshots" / ("0" * 40), CONFIG, small_uni2().state_dict())
    check_weights("hf-hub:someone/net", SHAPE, {})


def test_a_gated_encoder_that_is_missing_is_named_with_its_page() -> None:
    with pytest.raises(DataError, match="paige-ai/Virchow2 cannot be fetched") as caught:
        check_weights("virchow2", SHAPE, {"input_size": 28})
    message = str(caught.value)
    assert "ask for access at https://huggingface.co/paige-ai/Virchow2, log in with" in message
    assert "copy its files to a folder Virchow2 inside a folder of RAYSEARCH_WEIGHTS" in message
    assert "\n" not in message


def test_weights_of_another_encoder_are_named(tmp_path: Path) -> None:
    with torch.device("meta"):
        network = unwrap(build_network("lunit-s16", SHAPE, 2, {"input_size": 224}))
    assert isinstance(network, EncoderNetwork)
    state = {name: torch.zeros(value.shape) for name, value in network.encoder.state_dict().items()}
    path = tmp_path / "weights.pth"
    torch.save({"teacher": state}, path)
    with pytest.raises(SpaceError, match="these are weights of lunit-s16"):
        check_weights("lunit-s8", SHAPE, {"input_size": 224, "weights": str(path)})


def with_argument(name: str, value: object) -> dict[str, Any]:
    """The configuration of timm with another argument of `create_model`."""
    return {**CONFIG, "model_args": {**CONFIG["model_args"], name: value}}


def bad_snapshots(tmp_path: Path) -> dict[str, tuple[Path, str]]:
    """Folders that cannot be used, and what is said about each."""
    state = small_uni2().state_dict()
    narrow = {name: value[:1] for name, value in state.items()}
    folders = {
        "other": (write_snapshot(tmp_path / "other", CONFIG, narrow), "of another shape: "),
        "half": (
            write_snapshot(tmp_path / "half", CONFIG, dict(list(state.items())[:9])),
            "missing: ",
        ),
        "unknown": (
            write_snapshot(tmp_path / "unknown", {**CONFIG, "architecture": "vit_none"}, state),
            "timm .* has no model vit_none",
        ),
        "type": (
            write_snapshot(tmp_path / "type", {"model_type": "bert"}, state),
            "type 'bert' are not supported",
        ),
        "neither": (write_snapshot(tmp_path / "neither", {}, state), "neither `architecture`"),
    }
    path = write_snapshot(tmp_path / "path", with_argument("checkpoint_path", "/tmp/x.pth"), state)
    bad_numbers: list[tuple[str, list[float], str]] = [
        ("std", [0.0, 0.1, 0.1], "the mean and std of its config.json cannot be used"),
        ("input_size", [3, 5000, 5000], "the input size of its config.json cannot be used"),
    ]
    for name, numbers, message in bad_numbers:
        changed = {**CONFIG, "pretrained_cfg": {**CONFIG["pretrained_cfg"], name: numbers}}
        folders[f"bad {name}"] = (write_snapshot(tmp_path / name, changed, state), message)
    for name, value, message in (
        ("depth", 1000, "the depth of its config.json cannot be used"),
        ("patch_size", 0, "timm cannot build vit_giant_patch14_224"),
        ("num_heads", 0, "timm cannot build vit_giant_patch14_224"),
        ("features_only", True, "have features_only; remove it"),
    ):
        folder = write_snapshot(tmp_path / f"{name} {value}", with_argument(name, value), state)
        folders[f"bad {name}"] = (folder, message)
    shapes = {**CONFIG, "pretrained_cfg": {"input_size": [3, -1, 224]}}
    folders["size"] = (
        write_snapshot(tmp_path / "size", shapes, state),
        "pretrained_cfg.input_size.1: Input should be greater than 0",
    )
    layer = write_snapshot(tmp_path / "layer", with_argument("mlp_layer", "os"), state)
    folders["layer"] = (layer, "its mlp_layer is 'os'; known are GluMlp, ")
    folders["path"] = (path, "have checkpoint_path; remove it")
    (tmp_path / "empty").mkdir()
    folders["empty"] = (tmp_path / "empty", "has no config.json")
    bare = write_snapshot(tmp_path / "bare", CONFIG, state)
    (bare / "model.safetensors").unlink()
    folders["bare"] = (bare, "has none of model.safetensors, pytorch_model.bin")
    text = write_snapshot(tmp_path / "text", CONFIG, state)
    (text / "config.json").write_text("{")
    folders["text"] = (text, "config.json cannot be read")
    return folders


def check_shape_and_weights(architecture: str) -> None:
    """Check what a launch checks before it starts."""
    check_patch_shape(architecture, SHAPE, {})
    check_weights(architecture, SHAPE, {})


def test_unusable_snapshots_are_rejected_in_one_line(tmp_path: Path) -> None:
    for name, (folder, message) in bad_snapshots(tmp_path).items():
        with pytest.raises(UserError, match=message) as caught:
            check_shape_and_weights(str(folder))
        assert "\n" not in str(caught.value), name


def test_the_weights_of_an_encoder_are_rejected_for_another_network() -> None:
    with pytest.raises(SpaceError, match="cnn is no pretrained encoder"):
        check_weights("cnn", SHAPE, {"weights": "pretrained"})


def test_a_configuration_of_transformers_names_no_code(tmp_path: Path) -> None:
    config = {
        "model_type": "dinov2",
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "auto_map": {"AutoModel": "evil.Model"},
        "_attn_implementation": "someone/kernel",
        "attn_implementation": "someone/kernel",
        "trust_remote_code": True,
    }
    folder = write_snapshot(tmp_path / "net", config, {"a": torch.zeros(1)})
    arguments = {"hidden_size": 16, "num_hidden_layers": 1, "image_size": 224}
    assert encoder_of(str(folder)).arguments == arguments


def test_weights_of_another_model_of_transformers_are_named_without_a_report(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, hidden_size in (("small", 16), ("large", 32)):
        config = Dinov2Config(**{**SMALL_TRANSFORMER, "hidden_size": hidden_size})
        AutoModel.from_config(config).save_pretrained(tmp_path / name)
    capfd.readouterr()
    weights = str(tmp_path / "small/model.safetensors")
    with pytest.raises(SpaceError, match="not those of") as caught:
        check_weights(str(tmp_path / "large"), SHAPE, {"weights": weights})
    assert "\n" not in str(caught.value)
    printed = capfd.readouterr()
    assert printed.out + printed.err == ""


@pytest.mark.parametrize("name", ["hf-hub:a/b/c", "hf-hub:", "hf-hub:foo bar/x", "hf-hub:../../x"])
def test_a_repository_has_an_owner_and_a_name(name: str) -> None:
    with pytest.raises(SpaceError, match="is unknown"):
        resolve({"architecture": name})


def test_a_transformer_without_a_class_token_has_no_pooling_of_it(tmp_path: Path) -> None:
    config = {
        "architecture": "test_vit",
        "model_args": {"class_token": False, "global_pool": "avg"},
        "pretrained_cfg": {"input_size": [3, 32, 32]},
    }
    folder = write_snapshot(tmp_path / "net", config, {"a": torch.zeros(1)})
    with torch.device("meta"):
        build_network(str(folder), SHAPE, 2, {"token_pooling": "mean"})
        with pytest.raises(SpaceError, match="has no class token; choose `token_pooling: mean`"):
            build_network(str(folder), SHAPE, 2, {"token_pooling": "class"})
