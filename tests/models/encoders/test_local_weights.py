"""The files of pretrained weights of a machine are listed with the networks that they are for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from raysearch.errors import DataError
from raysearch.models.encoders.local_weights import LocalWeights, list_local_weights
from raysearch.models.timm_models import timm_library
from support.encoder_snapshots import CONFIG, small_uni2, write_snapshot

TIMM_NAME = "resnet10t"


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder of RAYSEARCH_WEIGHTS beside empty caches of this program, torch and the hub."""
    monkeypatch.setenv("RAYSEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("RAYSEARCH_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (tmp_path / "weights").mkdir()
    return tmp_path / "weights"


def cached_file(hub: Path, repository: str, content: Path, sha256: str) -> Path:
    """Put the files of `content` into the cache of the hub as it does; return its weights."""
    cache = hub / f"models--{repository.replace('/', '--')}"
    snapshot = cache / "snapshots" / ("0" * 40)
    for part in (cache / "refs", cache / "blobs", snapshot):
        part.mkdir(parents=True)
    (cache / "refs/main").write_text("0" * 40)
    for path in content.iterdir():
        blob = cache / "blobs" / (sha256 if path.suffix == ".safetensors" else path.name)
        path.rename(blob)
        (snapshot / path.name).symlink_to(blob)
    return snapshot / "model.safetensors"


def by_name(errors: list[DataError]) -> dict[str, LocalWeights]:
    return {weights.architectures[0]: weights for weights in list_local_weights(errors.append)}


def test_an_empty_machine_has_none(folder: Path) -> None:
    assert folder.is_dir()
    assert by_name([]) == {}


def test_names_of_timm_and_of_the_hub_are_listed(folder: Path, tmp_path: Path) -> None:
    state = timm_library().create_model(TIMM_NAME).state_dict()
    config = timm_library().get_pretrained_cfg(TIMM_NAME)
    save_file(state, folder / f"{TIMM_NAME}.safetensors")
    torch.save(state, folder / "unrelated.pt")
    (tmp_path / "download").mkdir()
    save_file(state, tmp_path / "download" / "model.safetensors")
    path = cached_file(tmp_path / "hub", config.hf_hub_id, tmp_path / "download", "ab" * 32)
    own = write_snapshot(tmp_path / "own", CONFIG, small_uni2().state_dict())
    cached_file(tmp_path / "hub", "someone/small-uni", own, "cd" * 32)
    text = write_snapshot(tmp_path / "text", {"model_type": "bert"}, {"a": torch.zeros(1)})
    cached_file(tmp_path / "hub", "someone/text", text, "ef" * 32)
    weights = by_name([])
    assert weights.keys() == {f"timm:{TIMM_NAME}", "hf-hub:someone/small-uni"}
    hub = weights["hf-hub:someone/small-uni"]
    assert (hub.weights, hub.source, hub.sha256) == ("pretrained", "someone/small-uni", "cd" * 32)
    assert hub.license == "cc-by-nc-nd-4.0"
    errors: list[DataError] = []
    files = list_local_weights(errors.append)
    assert not errors
    (cached,) = [each for each in files if each.path == path]
    assert cached.architectures == (f"timm:{TIMM_NAME}", f"timm:{TIMM_NAME}.{config.tag}")
    assert (cached.source, cached.license) == (config.hf_hub_id, "apache-2.0")
    assert cached.sha256 == "ab" * 32
    (own_file,) = [each for each in files if each.path.parent == folder]
    assert own_file.architectures == (f"timm:{TIMM_NAME}",)
    assert (own_file.source, own_file.license, own_file.sha256) == ("", "", "")


def test_a_file_of_torchvision_is_also_for_the_model_of_timm_with_its_weights(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "resnet18-f37072fd.pth").write_bytes(b"other")
    errors: list[DataError] = []
    weights = by_name(errors)
    assert "does not have the hash" in str(errors[0])
    assert "resnet18" not in weights
    monkeypatch.setattr("raysearch.models.weights.imagenet_files.check_content", lambda _path: None)
    listed = by_name([])["resnet18"]
    assert listed.architectures == ("resnet18", "timm:resnet18.tv_in1k")
    assert listed.source == "https://download.pytorch.org/models/resnet18-f37072fd.pth"
