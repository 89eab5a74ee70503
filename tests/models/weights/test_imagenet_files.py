"""Files of ImageNet weights are found where people have them, without a network connection."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torchvision import models

from raysearch.errors import DataError, SpaceError
from raysearch.models.architectures.networks import build_with_weights
from raysearch.models.timm_models import timm_library
from raysearch.models.transfer.input_normalization import unwrap
from raysearch.models.weights.imagenet_files import (
    imagenet_file,
    imagenet_license,
    local_imagenet_file,
)

TIMM_NAME = "resnet10t"
SHAPE = (32, 32, 3)


@pytest.fixture(autouse=True)
def caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder with empty caches of this program, of torch and of the hub."""
    monkeypatch.setenv("RAYSEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("RAYSEARCH_WEIGHTS", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


def publish(monkeypatch: pytest.MonkeyPatch, version: str, seed: int) -> tuple[str, bytes]:
    """Replace the published weights of ResNet-50 by new ones; return their file."""
    torch.manual_seed(seed)
    content = io.BytesIO()
    torch.save({"conv1.weight": torch.rand(2)}, content)
    name = f"resnet50-{hashlib.sha256(content.getvalue()).hexdigest()[:8]}.pth"
    weights = models.get_model_weights("resnet50")[version]
    monkeypatch.setattr(weights.value, "url", f"http://127.0.0.1:9/{name}")
    return name, content.getvalue()


def test_folders_of_the_user_come_before_the_caches(
    monkeypatch: pytest.MonkeyPatch, caches: Path
) -> None:
    name, content = publish(monkeypatch, "IMAGENET1K_V2", 0)
    assert local_imagenet_file("resnet50") is None
    folders = [caches / "torch/hub/checkpoints", caches / "cache/weights", caches / "b"]
    monkeypatch.setenv("RAYSEARCH_WEIGHTS", f"{caches / 'a'}:{caches / 'b'}")
    for folder in folders:
        folder.mkdir(parents=True, mode=0o700)
        (folder / name).write_bytes(content)
        assert imagenet_file("resnet50") == folder / name


def test_another_version_on_this_machine_is_preferred_to_a_download(
    monkeypatch: pytest.MonkeyPatch, caches: Path
) -> None:
    folder = caches / "torch/hub/checkpoints"
    folder.mkdir(parents=True)
    for version in ("IMAGENET1K_V1", "IMAGENET1K_V2"):
        name, content = publish(monkeypatch, version, ord(version[-1]))
        (folder / name).write_bytes(content)
        assert imagenet_file("resnet50") == folder / name


def test_a_file_without_the_content_of_its_name_is_rejected(
    monkeypatch: pytest.MonkeyPatch, caches: Path
) -> None:
    name, content = publish(monkeypatch, "IMAGENET1K_V2", 0)
    monkeypatch.setenv("RAYSEARCH_WEIGHTS", str(caches))
    (caches / name).write_bytes(content[:-1])
    with pytest.raises(DataError, match="does not have the hash"):
        imagenet_file("resnet50")


def test_the_cache_of_the_hub_has_the_weights_of_timm(caches: Path) -> None:
    repository = timm_library().get_pretrained_cfg(TIMM_NAME).hf_hub_id
    folder = caches / f"hub/models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs/main").write_text("0" * 40)
    snapshot = folder / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    torch.manual_seed(1)
    pretrained = timm_library().create_model(TIMM_NAME)
    save_file(pretrained.state_dict(), snapshot / "model.safetensors")
    assert local_imagenet_file(f"timm:{TIMM_NAME}") == snapshot / "model.safetensors"
    net = unwrap(build_with_weights(f"timm:{TIMM_NAME}", SHAPE, 2, {"weights": "imagenet"}))
    name = "layer4.0.conv2.weight"
    assert torch.equal(net.get_parameter(name), pretrained.get_parameter(name))


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_a_folder_of_the_user_has_the_weights_of_timm_under_its_name(
    monkeypatch: pytest.MonkeyPatch, caches: Path, suffix: str
) -> None:
    monkeypatch.setenv("RAYSEARCH_WEIGHTS", str(caches))
    path = caches / f"{TIMM_NAME}{suffix}"
    state = timm_library().create_model(TIMM_NAME).state_dict()
    if suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    assert imagenet_file(f"timm:{TIMM_NAME}") == path


def stored_with_hash(folder: Path, name: str) -> Path:
    """Write a small state dictionary to `NAME-HASH.pth`, as torch's hub names it."""
    content = io.BytesIO()
    torch.save({"weight": torch.zeros(2)}, content)
    digest = hashlib.sha256(content.getvalue()).hexdigest()
    path = folder / f"{name}-{digest[:8]}.pth"
    path.write_bytes(content.getvalue())
    return path


@pytest.mark.parametrize(
    ("model", "stored_name"),
    [
        (TIMM_NAME, TIMM_NAME),
        ("tf_efficientnet_lite0", "efficientnet-lite0"),
        ("tf_efficientnet_b0", "efficientnet-b0"),
    ],
)
def test_a_folder_of_the_user_has_the_weights_of_timm_under_a_name_with_a_hash(
    monkeypatch: pytest.MonkeyPatch, caches: Path, model: str, stored_name: str
) -> None:
    monkeypatch.setenv("RAYSEARCH_WEIGHTS", f"{caches / 'none'}:{caches}")
    assert local_imagenet_file(f"timm:{model}") is None
    path = stored_with_hash(caches, stored_name)
    assert local_imagenet_file(f"timm:{model}") == path
    # EfficientNet-PyTorch's networks pad like TensorFlow's, unlike those without `tf_`.
    assert local_imagenet_file("timm:efficientnet_lite0") is None
    # The name does not say which of several weights of one model the file has.
    tagged = timm_library().get_pretrained_cfg(model).tag
    assert local_imagenet_file(f"timm:{model}.{tagged}") is None
    path.write_bytes(b"other content")
    with pytest.raises(DataError, match="does not have the hash"):
        local_imagenet_file(f"timm:{model}")


@pytest.mark.parametrize("architecture", ["cnn", "timm:efficientnet_l2"])
def test_an_architecture_without_weights_is_named(architecture: str) -> None:
    with pytest.raises(SpaceError, match=f"weights imagenet: {architecture} has none"):
        imagenet_file(architecture)


def test_a_cache_that_others_can_write_to_is_not_searched(
    monkeypatch: pytest.MonkeyPatch, caches: Path
) -> None:
    name, content = publish(monkeypatch, "IMAGENET1K_V2", 0)
    folder = caches / "torch/hub/checkpoints"
    folder.mkdir(parents=True)
    (folder / name).write_bytes(content)
    assert local_imagenet_file("resnet50") == folder / name
    folder.chmod(0o777)
    assert local_imagenet_file("resnet50") is None


def test_the_license_is_that_of_the_weights_on_this_machine(
    monkeypatch: pytest.MonkeyPatch, caches: Path
) -> None:
    weights = models.get_model_weights("resnet50")
    meta = {**weights["IMAGENET1K_V1"].meta, "license": "cc-by-nc-4.0"}
    name, content = publish(monkeypatch, "IMAGENET1K_V1", 0)
    monkeypatch.setattr(weights["IMAGENET1K_V1"].value, "meta", meta)
    recommended = imagenet_license("resnet50")
    assert recommended is not None
    assert recommended.license == ""
    monkeypatch.setenv("RAYSEARCH_WEIGHTS", str(caches))
    (caches / name).write_bytes(content)
    found = imagenet_license("resnet50")
    assert found is not None
    assert (found.license, found.source) == ("cc-by-nc-4.0", f"http://127.0.0.1:9/{name}")


def test_the_license_of_a_file_whose_name_has_no_tag_is_unknown(
    monkeypatch: pytest.MonkeyPatch, caches: Path
) -> None:
    monkeypatch.setenv("RAYSEARCH_WEIGHTS", str(caches))
    state = timm_library().create_model(TIMM_NAME).state_dict()
    save_file(state, caches / f"{TIMM_NAME}.safetensors")
    found = imagenet_license(f"timm:{TIMM_NAME}")
    assert found is not None
    assert found.license == ""
    assert found.copies == "unknown"
    assert "license unknown (the file declares none)" in str(found)
    tag = timm_library().get_pretrained_cfg(TIMM_NAME).tag
    save_file(state, caches / f"{TIMM_NAME}.{tag}.safetensors")
    tagged = imagenet_license(f"timm:{TIMM_NAME}.{tag}")
    assert tagged is not None
    assert tagged.license == "apache-2.0"
