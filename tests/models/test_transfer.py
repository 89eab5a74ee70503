"""Transfer: heads, weights from a file or a server, frozen layers, two stages, rates by depth."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import nn

from conftest import Commands
from raysearch.config.space_file import parse_space
from raysearch.errors import DataError, SpaceError, UserError
from raysearch.models.architectures import begun, build, reject_weights
from raysearch.models.transfer.layer_order import Head, blocks, head_name, inside
from raysearch.models.transfer.pretrained_weights import fetch, weights_folder
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.plan import make_plan
from raysearch.search.study.study import read_history
from raysearch.training.checkpoint import pack, unpack
from raysearch.training.fold_training import FoldRun
from raysearch.training.layer_groups import Layers
from raysearch.training.loop import train
from raysearch.training.train_config import TrainConfig
from raysearch.training.training_data import TrainingData

SHAPE = (50, 50, 3)
SMALL = {"architecture": "cnn", "width": 4, "convolutions": 1}


def config(epochs: int = 3, **hparams: Any) -> TrainConfig:
    return TrainConfig({**SMALL, "batch_size": 16, **hparams}, epochs, "auroc", 0)


@pytest.mark.parametrize("name", ["cnn", "resnet18", "vgg16", "mobilenet_v3_small"])
def test_the_head_is_the_last_layer_and_the_blocks_are_all_the_others_in_order(name: str) -> None:
    with torch.device("meta"):
        net = build(name, SHAPE, 2, {})
    head = head_name(net, 2)
    found = blocks(net, head)
    parameters = [one for _name, layer in found for one in layer.parameters()]
    parameters += list(net.get_submodule(head).parameters())
    assert [id(one) for one in parameters] == [id(one) for one in net.parameters()]
    assert len(found) >= 6


def test_a_head_of_its_own_stands_in_place_of_the_last_layer() -> None:
    hparams = {"head_hidden_units": 7, "head_batch_norm": True, "head_dropout": 0.5}
    net = build("resnet18", SHAPE, 3, hparams)
    head = net.get_submodule("fc")
    assert isinstance(head, Head)
    assert [type(layer) for layer in head] == [
        nn.BatchNorm1d,
        nn.Linear,
        nn.ReLU,
        nn.Dropout,
        nn.Linear,
    ]
    assert net(torch.zeros(2, *SHAPE[2:], *SHAPE[:2])).shape == (2, 3)
    assert head_name(net, 3) == "fc"


def test_imagenets_mean_and_spread_are_taken_off_in_front_of_the_net() -> None:
    torch.manual_seed(0)
    plain = build("cnn", SHAPE, 2, {}).eval()
    net = build("cnn", SHAPE, 2, {"normalization": "imagenet"}).eval()
    inside(net).load_state_dict(plain.state_dict())
    pixels = torch.rand(2, 3, 50, 50)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    wanted = plain((pixels - mean.view(3, 1, 1)) / std.view(3, 1, 1))
    assert torch.allclose(net(pixels * 2 - 1), wanted, atol=1e-5)


@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
def test_weights_of_another_set_begin_a_training_and_the_head_is_its_own(
    data: TrainingData, tmp_path: Path, ending: str
) -> None:
    torch.manual_seed(1)
    other = build("cnn", SHAPE, 5, {**SMALL, "dropout": 0.1})
    path = tmp_path / f"other{ending}"
    if ending == ".pt":
        torch.save(other.state_dict(), path)
    else:
        save_file(other.state_dict(), path)
    run = FoldRun(config(weights=str(path), head_hidden_units=8), data, 0)
    fresh = FoldRun(config(head_hidden_units=8), data, 0)
    head = head_name(other, 5)
    found, first = run.model.state_dict(), fresh.model.state_dict()
    for name, value in other.state_dict().items():
        if not name.startswith(head):
            assert torch.equal(found[name], value)
    own = [name for name in found if name.startswith(head)]
    assert own
    assert all(torch.equal(found[name], first[name]) for name in own)


def test_weights_that_cannot_be_had_are_told_at_plan_time(shards: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.pt"
    torch.save(build("cnn", SHAPE, 2, {**SMALL, "width": 8}).state_dict(), other)
    (tmp_path / "text.pt").write_text("no weights")
    torch.save([1, 2], tmp_path / "list.pt")
    for weights, said in (
        (tmp_path / "none.pt", "no such file"),
        (tmp_path / "text.pt", "cannot be read"),
        (tmp_path / "list.pt", "holds no state dictionary"),
        (other, r"not those of cnn \(0.weight is \(8, 3, 3, 3\) instead of \(4, 3, 3, 3\)\)"),
        ("imagenet", "cnn has none"),
    ):
        tree = {"epochs": 1, "trials": 1, "space": {**SMALL, "weights": str(weights)}}
        with pytest.raises(UserError, match=said):
            make_plan(parse_space(tree, "x"), "x", str(shards))
    with pytest.raises(SpaceError, match="is missing, and"):
        reject_weights("resnet18", SHAPE, {"weights": str(other)})
    with pytest.raises(SpaceError, match=r"one of none, imagenet, or a file \(.pt, .pth"):
        parse_space({"epochs": 1, "trials": 1, "space": {"weights": "resnet"}}, "x")


def test_a_vision_transformers_positions_are_fitted_to_the_patch(tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    from torchvision.models import VisionTransformer

    small = {"patch_size": 16, "num_layers": 1, "num_heads": 2, "hidden_dim": 8, "mlp_dim": 8}
    other = VisionTransformer(image_size=64, num_classes=5, **small)
    net = VisionTransformer(image_size=96, num_classes=2, **small)
    torch.save(other.state_dict(), tmp_path / "vit.pt")
    from raysearch.models.transfer.pretrained_weights import load_weights

    load_weights(net, "vit_b_16", str(tmp_path / "vit.pt"), 2, (96, 96, 3))
    assert net.encoder.pos_embedding.shape == (1, 37, 8)
    assert torch.equal(net.conv_proj.weight, other.conv_proj.weight)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path, list[str]]]:
    """A server of files, its folder, and the paths that it was asked for."""
    asked: list[str] = []
    folder = tmp_path / "served"
    folder.mkdir()

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_args: object) -> None:
            asked.append(self.path)

    serving = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=serving.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{serving.server_port}", folder, asked
    serving.shutdown()
    serving.server_close()
    thread.join()


def test_weights_are_fetched_once_a_node_whoever_asks(
    server: tuple[str, Path, list[str]], tmp_path: Path
) -> None:
    address, folder, asked = server
    content = np.random.default_rng(0).bytes(100_000)
    import hashlib

    name = f"net-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    (folder / name).write_bytes(content)
    wanted = tmp_path / "cache" / name
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: fetch(f"{address}/{name}", wanted), range(4)))
    assert {one.read_bytes() for one in found} == {content}
    assert asked == [f"/{name}"]


def test_a_file_that_is_not_what_its_name_says_and_a_server_that_is_away_leave_nothing(
    server: tuple[str, Path, list[str]], tmp_path: Path
) -> None:
    address, folder, _asked = server
    (folder / "net-12345678.pth").write_bytes(b"other")
    for source in (f"{address}/net-12345678.pth", "http://127.0.0.1:9/net-12345678.pth"):
        wanted = tmp_path / "cache" / "net-12345678.pth"
        with pytest.raises(DataError, match=rf"put it at {wanted} on every node") as told:
            fetch(source, wanted)
        assert "\n" not in str(told.value)
        assert not [one for one in wanted.parent.iterdir() if one.suffix != ".lock"]


def test_imagenets_weights_are_taken_from_the_cache_without_a_network(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from torchvision import models

    monkeypatch.setenv("RAYSEARCH_CACHE", str(tmp_path))
    url = models.get_model_weights("resnet18").DEFAULT.url
    place = weights_folder() / url.rpartition("/")[2]
    place.parent.mkdir(parents=True)
    torch.manual_seed(0)
    other = models.resnet18(weights=None)
    torch.save(other.state_dict(), place)
    net = begun("resnet18", SHAPE, 2, {"weights": "imagenet"})
    assert torch.equal(
        inside(net).get_parameter("layer4.1.conv2.weight"), other.layer4[1].conv2.weight
    )
    assert inside(net) is not net
    assert inside(net).get_submodule("fc").out_features == 2


def changed(run: FoldRun, epoch: int) -> list[bool]:
    """Whether each block, and then the head, has other numbers after `epoch`."""
    net = inside(run.model)
    head = head_name(net, 2)
    parts = [layer for _name, layer in blocks(net, head)] + [net.get_submodule(head)]
    before = [[value.clone() for value in part.state_dict().values()] for part in parts]
    run.learn(epoch)
    return [
        any(
            not torch.equal(old, new)
            for old, new in zip(values, part.state_dict().values(), strict=True)
        )
        for values, part in zip(before, parts, strict=True)
    ]


def test_frozen_blocks_keep_their_weights_and_their_means(data: TrainingData) -> None:
    run = FoldRun(config(frozen=2), data, 0)
    assert changed(run, 0) == [False, False, True, True, True, True, True]
    everything = FoldRun(config(frozen=100), data, 0)
    assert changed(everything, 0) == [False] * 6 + [True]


def test_the_head_learns_first_and_then_all_that_is_not_frozen(data: TrainingData) -> None:
    run = FoldRun(
        config(epochs=3, head_epochs=1, head_learning_rate=0.01, frozen=1, learning_rate=0.001),
        data,
        0,
    )
    assert {group["lr"] for group in run.steps.optimizer.param_groups} == {0.01}
    assert changed(run, 0) == [False] * 6 + [True]
    assert changed(run, 1) == [False] + [True] * 6
    assert max(group["lr"] for group in run.steps.optimizer.param_groups) <= 0.001


def test_rates_fall_by_depth_and_the_head_has_its_own_decay(data: TrainingData) -> None:
    hparams: dict[str, Any] = {"layer_decay": 0.5, "head_weight_decay": 0.3, "learning_rate": 0.01}
    run = FoldRun(config(schedule="constant", weight_decay=0.1, **hparams), data, 0)
    groups = run.steps.optimizer.param_groups
    assert [group["lr"] for group in groups] == [0.01 * 0.5**depth for depth in range(6, -1, -1)]
    assert [group["weight_decay"] for group in groups] == [0.1] * 6 + [0.3]
    assert all(len(group["params"]) for group in groups)


def test_what_stands_before_the_blocks_is_frozen_with_them() -> None:
    from torchvision.models import VisionTransformer

    net = VisionTransformer(32, 16, 2, 2, 8, 8, num_classes=2)
    layers = Layers(net, 2, frozen=1)
    layers.hold(head_only=False)
    assert not net.class_token.requires_grad
    assert not net.conv_proj.weight.requires_grad
    assert net.heads.head.weight.requires_grad
    assert net.encoder.layers[1].mlp[0].weight.requires_grad


@pytest.mark.parametrize("after", [1, 2, 3])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_transfer_goes_on_from_its_checkpoint_as_if_it_had_not_stopped(
    data: TrainingData, after: int, optimizer: str
) -> None:
    asked = config(
        epochs=4,
        optimizer=optimizer,
        head_epochs=2,
        frozen=1,
        layer_decay=0.8,
        head_hidden_units=8,
        head_dropout=0.2,
        head_batch_norm=True,
        head_weight_decay=0.1,
    )
    losses: list[float] = []
    states: list[bytes] = []

    def note(done: Any, _judged: Any, state: Any) -> None:
        losses.append(done.loss)
        states.append(pack(state()))

    train(asked, data, note)
    whole = list(losses)
    losses.clear()
    train(asked, data, note, unpack(states[after - 1]))
    assert losses == whole[after:]


def test_a_rate_of_a_stage_that_is_not_there_is_read_by_nothing() -> None:
    tree = {"epochs": 3, "trials": 1, "space": {"head_learning_rate": 0.1}}
    with pytest.raises(SpaceError, match=r"head_learning_rate: nothing reads it without"):
        parse_space(tree, "x")


def test_two_stages_need_more_epochs_than_the_first_has() -> None:
    tree = {"epochs": 3, "trials": 1, "space": {"head_epochs": {"choice": [0, 3]}}}
    with pytest.raises(SpaceError, match=r"space\.head_epochs: 3 of the 3 epochs"):
        parse_space(tree, "x")


@pytest.mark.slow
def test_a_champions_weights_begin_another_study(run: Commands) -> None:
    first: dict[str, Any] = {
        "epochs": 1,
        "trials": 1,
        "repeats": 0,
        "space": {"folds": 2, **SMALL, "normalization": "imagenet"},
    }
    (run.folder / "first.yaml").write_text(yaml.safe_dump(first))
    run("launch", "first.yaml", "--data", "synthetic:6:120:0")
    assert "no study 'none'" in run("weights", "none", "first.pt", code=2).stderr
    assert "no file of weights" in run("weights", "first", "first.txt", code=2).stderr
    run("weights", "first", "first.pt")
    state = torch.load(run.folder / "first.pt", weights_only=True)
    assert list(state) == list(build("cnn", SHAPE, 2, SMALL).state_dict())
    second: dict[str, Any] = {
        "epochs": 2,
        "trials": 1,
        "repeats": 0,
        "space": {"folds": 2, **SMALL, "weights": "first.pt"},
    }
    second["space"] |= {"head_epochs": 1, "frozen": 1, "head_hidden_units": 4}
    (run.folder / "second.yaml").write_text(yaml.safe_dump(second))
    run("launch", "second.yaml", "--data", "synthetic:6:120:1")
    # The plan tries the largest net, whose weights these are; of the other they are not.
    third: dict[str, Any] = {
        "epochs": 1,
        "trials": 2,
        "sampler": "grid",
        "repeats": 0,
        "space": {"folds": 2, **SMALL, "width": {"choice": [2, 4]}, "weights": "first.pt"},
    }
    (run.folder / "third.yaml").write_text(yaml.safe_dump(third))
    run("launch", "third.yaml", "--data", "synthetic:6:120:1")
    history = read_history(StudyFolder(str(run.folder / "studies" / "third")))
    ended = {one.hparams["width"]: one for one in history.searched()}
    assert ended[2].status == "failed"
    assert "not those of cnn" in ended[2].reason
    assert ended[4].status == "finished"
