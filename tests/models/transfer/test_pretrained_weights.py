import hashlib
import io
import os
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import models
from torchvision.models import VisionTransformer

from raysearch.config.hyperparameter_spec import Value
from raysearch.data.cache_folder import private_folder
from raysearch.errors import DataError, SpaceError, UserError
from raysearch.models.architectures.networks import (
    build_network,
    build_with_weights,
    check_weights,
)
from raysearch.models.transfer.input_normalization import unwrap
from raysearch.models.transfer.network_layers import head_name
from raysearch.models.transfer.pretrained_weights import load_weights
from raysearch.models.weights.weights_cache import download, download_once, weights_folder

SHAPE = (50, 50, 3)
SMALL_CNN: dict[str, Value] = {"width": 4, "convolutions": 1}


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_all_weights_but_those_of_the_head_are_loaded(tmp_path: Path, suffix: str) -> None:
    torch.manual_seed(1)
    pretrained = build_network("cnn", SHAPE, 5, {**SMALL_CNN, "dropout": 0.1})
    path = tmp_path / f"pretrained{suffix}"
    if suffix == ".pt":
        torch.save(pretrained.state_dict(), path)
    else:
        save_file(pretrained.state_dict(), path)
    torch.manual_seed(2)
    with_random_weights = build_network("cnn", SHAPE, 2, {**SMALL_CNN, "head_hidden_units": 8})
    torch.manual_seed(2)
    hparams = {**SMALL_CNN, "head_hidden_units": 8, "weights": str(path)}
    with_weights = build_with_weights("cnn", SHAPE, 2, hparams)
    head = head_name(pretrained, 5)
    state, random_state = with_weights.state_dict(), with_random_weights.state_dict()
    for name, value in pretrained.state_dict().items():
        if not name.startswith(head):
            assert torch.equal(state[name], value)
    head_weights = [name for name in state if name.startswith(head)]
    assert head_weights
    assert all(torch.equal(state[name], random_state[name]) for name in head_weights)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
def test_a_pipe_or_a_device_is_no_file_of_weights(tmp_path: Path, suffix: str) -> None:
    net = unwrap(build_network("cnn", SHAPE, 2, SMALL_CNN))
    os.mkfifo(tmp_path / f"pipe{suffix}")
    (tmp_path / f"zero{suffix}").symlink_to("/dev/zero")
    for name in ("pipe", "zero"):
        weights = str(tmp_path / f"{name}{suffix}")
        with pytest.raises(DataError, match="a pipe or a device; give a regular file"):
            load_weights(net, "cnn", weights, 2, SHAPE)


def test_weights_that_cannot_be_used_are_rejected_with_the_reason(tmp_path: Path) -> None:
    wide = tmp_path / "wide.pt"
    torch.save(build_network("cnn", SHAPE, 2, {**SMALL_CNN, "width": 8}).state_dict(), wide)
    (tmp_path / "text.pt").write_text("no weights")
    torch.save([1, 2], tmp_path / "list.pt")
    for weights, message in (
        (tmp_path / "none.pt", "no such file"),
        (tmp_path / "text.pt", "cannot be read"),
        (tmp_path / "list.pt", "holds no state dictionary"),
        (wide, r"not those of cnn \(15 of another shape: 0.weight \(8, 3, 3, 3\) instead of \("),
        ("imagenet", "cnn has none"),
    ):
        with pytest.raises(UserError, match=message):
            check_weights("cnn", SHAPE, {**SMALL_CNN, "weights": str(weights)})
    with pytest.raises(SpaceError, match=r"120 missing: bn1.bias, .*; 20 unexpected: 0.weight, "):
        check_weights("resnet18", SHAPE, {"weights": str(wide)})


def test_the_position_embedding_of_a_vision_transformer_is_interpolated(tmp_path: Path) -> None:
    small = {"patch_size": 16, "num_layers": 1, "num_heads": 2, "hidden_dim": 8, "mlp_dim": 8}
    pretrained = VisionTransformer(image_size=64, num_classes=5, **small)
    net = VisionTransformer(image_size=96, num_classes=2, **small)
    torch.save(pretrained.state_dict(), tmp_path / "vit.pt")
    load_weights(net, "vit_b_16", str(tmp_path / "vit.pt"), 2, (96, 96, 3))
    assert net.encoder.pos_embedding.shape == (1, 37, 8)
    assert torch.equal(net.conv_proj.weight, pretrained.conv_proj.weight)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path, list[str]]]:
    """The address of a file server, its folder, and the paths of its requests."""
    requests: list[str] = []
    folder = tmp_path / "served"
    folder.mkdir()

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_args: object) -> None:
            requests.append(self.path)

    http_server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=http_server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{http_server.server_port}", folder, requests
    http_server.shutdown()
    http_server.server_close()
    thread.join()


def test_concurrent_callers_download_a_file_once(
    server: tuple[str, Path, list[str]], tmp_path: Path
) -> None:
    address, folder, requests = server
    content = np.random.default_rng(0).bytes(100_000)
    name = f"net-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    (folder / name).write_bytes(content)
    path = tmp_path / "cache" / name
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: download(f"{address}/{name}", path), range(4)))
    assert {path.read_bytes() for path in paths} == {content}
    assert requests == [f"/{name}"]


def test_a_file_with_a_wrong_hash_and_an_unreachable_server_leave_no_file(
    server: tuple[str, Path, list[str]], tmp_path: Path
) -> None:
    address, folder, _requests = server
    (folder / "net-12345678.pth").write_bytes(b"wrong")
    for url in (f"{address}/net-12345678.pth", "http://127.0.0.1:9/net-12345678.pth"):
        path = tmp_path / "cache" / "net-12345678.pth"
        with pytest.raises(DataError, match=rf"put it at {path} on every node") as caught:
            download(url, path)
        assert "\n" not in str(caught.value)
        assert not [file for file in path.parent.iterdir() if file.suffix != ".lock"]


def cached_resnet(monkeypatch: pytest.MonkeyPatch, cache: Path) -> tuple[nn.Module, Path]:
    """A ResNet-18 whose weights are in the cache, as torchvision's, and their file."""
    monkeypatch.setenv("RAYSEARCH_CACHE", str(cache))
    torch.manual_seed(0)
    pretrained = models.resnet18(weights=None)
    content = io.BytesIO()
    torch.save(pretrained.state_dict(), content)
    name = f"resnet18-{hashlib.sha256(content.getvalue()).hexdigest()[:8]}.pth"
    published = models.get_model_weights("resnet18").DEFAULT
    monkeypatch.setattr(published.value, "url", f"http://127.0.0.1:9/{name}")
    private_folder(weights_folder())
    (weights_folder() / name).write_bytes(content.getvalue())
    return pretrained, weights_folder() / name


def test_cached_imagenet_weights_are_loaded_without_a_network_connection(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pretrained, _path = cached_resnet(monkeypatch, tmp_path)
    net = build_with_weights("resnet18", SHAPE, 2, {"weights": "imagenet"})
    weight = unwrap(net).get_parameter("layer4.1.conv2.weight")
    assert torch.equal(weight, pretrained.get_parameter("layer4.1.conv2.weight"))
    assert unwrap(net) is not net
    assert unwrap(net).get_submodule("fc").out_features == 2


def test_cached_weights_of_another_content_are_rejected(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _pretrained, path = cached_resnet(monkeypatch, tmp_path)
    torch.save(models.resnet18(weights=None).state_dict(), path)
    with pytest.raises(DataError, match="does not have the hash that it was downloaded with"):
        build_with_weights("resnet18", SHAPE, 2, {"weights": "imagenet"})


def test_weights_without_a_hash_in_their_name_are_checked_against_the_stored_one(
    tmp_path: Path,
) -> None:
    path = tmp_path / "weights" / "net.safetensors"
    download_once(path, "net", lambda: save_file({"a": torch.zeros(3)}, path) or None)
    assert download_once(path, "net", pytest.fail) == path
    save_file({"a": torch.ones(3)}, path)
    with pytest.raises(DataError, match="does not have the hash that it was downloaded with"):
        download_once(path, "net", pytest.fail)


def test_weights_in_a_folder_that_others_can_write_to_are_rejected(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _pretrained, path = cached_resnet(monkeypatch, tmp_path)
    path.parent.chmod(0o770)
    with pytest.raises(DataError, match="other users can write to the cache"):
        build_with_weights("resnet18", SHAPE, 2, {"weights": "imagenet"})


def test_compressed_weights_and_pipes_are_rejected(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1000, 1000)}, tmp_path / "stored.pt")
    with (
        zipfile.ZipFile(tmp_path / "stored.pt") as stored,
        zipfile.ZipFile(tmp_path / "small.pt", "w", zipfile.ZIP_DEFLATED) as compressed,
    ):
        for member in stored.namelist():
            compressed.writestr(member, stored.read(member))
    os.mkfifo(tmp_path / "pipe.pt")
    for name, message in (("small", "its entries are compressed"), ("pipe", "a pipe or a device")):
        with pytest.raises(DataError, match=message):
            check_weights("cnn", SHAPE, {**SMALL_CNN, "weights": str(tmp_path / f"{name}.pt")})


def test_a_worker_rejects_weights_of_another_hash(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save(dict(unwrap(build_network("cnn", SHAPE, 2, SMALL_CNN)).state_dict()), path)
    hparams = {**SMALL_CNN, "weights": str(path)}
    content_hash = hashlib.sha256(path.read_bytes()).hexdigest()
    build_with_weights("cnn", SHAPE, 2, hparams, content_hash)
    with pytest.raises(DataError, match=f"has SHA-256 {content_hash[:12]}, the study was planned"):
        build_with_weights("cnn", SHAPE, 2, hparams, "0" * 64)


@pytest.mark.parametrize("prefix", ["", "module.backbone."])
def test_a_transformer_of_timm_takes_weights_of_other_classes_and_layouts(
    tmp_path: Path, prefix: str
) -> None:
    pretrained = build_network("timm:test_vit", (64, 64, 3), 5, {})
    state = {f"{prefix}{name}": value for name, value in pretrained.state_dict().items()}
    torch.save({"teacher": state}, tmp_path / "vit.pth")
    hparams: dict[str, Value] = {"weights": str(tmp_path / "vit.pth")}
    net = build_with_weights("timm:test_vit", (96, 96, 3), 2, hparams)
    assert net.get_parameter("pos_embed").shape[1] == 37
    name = "blocks.0.attn.qkv.weight"
    assert torch.equal(net.get_parameter(name), pretrained.get_parameter(name))
