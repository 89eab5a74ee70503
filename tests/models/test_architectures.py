import inspect

import pytest
import torch

from raysearch.config.space_file import parse_space
from raysearch.errors import SpaceError
from raysearch.models.architectures import ARCHITECTURES, build, hparams_of, reject_unfit
from raysearch.models.architectures.small_cnns import POOLINGS
from raysearch.models.classifier import PatchClassifier, normalised
from raysearch.models.dihedral import AVERAGES, turned
from raysearch.models.preprocessing import PREPROCESSINGS
from raysearch.training.components import ALWAYS, LIMITS, OPTIMIZERS, SELECTORS

SHAPE = (50, 50, 3)


def parameters(model: torch.nn.Module) -> int:
    return sum(one.numel() for one in model.parameters())


NETS = (*ARCHITECTURES, "timm:resnetv2_50", "timm:vit_tiny_patch16_224", "timm:inception_v4")
SMALL_NETS = ("benchmark", "cnn", "p4m", "mobilenet_v3_small", "resnet18", "googlenet")
# What a net of these images can do with so small a patch is in its own words.
REJECTED = {
    ("inception_v3", 50): r"needs 75 or more",
    ("vit_b_16", 50): r"it cuts them in squares of 16",
    ("timm:inception_v4", 50): r"cannot take patches of 50x50 \(it needs 75x75 or more\); ",
}


@pytest.mark.parametrize("side", [50, 96, 224])
@pytest.mark.parametrize("name", NETS)
def test_each_architecture_learns_from_patches_of_a_size_or_says_why_not(
    name: str, side: int
) -> None:
    shape = (side, side, 3)
    if (name, side) in REJECTED:
        with pytest.raises(SpaceError, match=REJECTED[name, side]) as told:
            reject_unfit(name, shape, {})
        assert "\n" not in str(told.value)
        return
    reject_unfit(name, shape, {})
    # In truth where that is cheap, else by shapes alone; batch norm of two patches included.
    device = torch.device("cpu" if name in SMALL_NETS and side < 224 else "meta")
    with device:
        model = build(name, shape, 3, {}).train()
        logits = model(torch.zeros(2, 3, side, side))
        assert logits.shape == (2, 3)
        loss = torch.nn.functional.cross_entropy(logits, torch.zeros(2, dtype=torch.int64))
        loss.backward()  # type: ignore[no-untyped-call]
    assert all(one.grad is not None for one in model.parameters())


def test_the_largest_net_of_a_space_is_of_the_largest_choices_that_stand_under_it() -> None:
    inner = {
        "cnn": {"stages": {"choice": [4, 5, 3]}, "kernel": {"int": [2, 5]}},
        "mobilenet_v2": {"dropout": {"uniform": [0.1, 0.3]}},
        "vgg16": {},
    }
    space = parse_space({"space": {"architecture": {"choice": inner}}}, "x")
    assert space.largest_nets() == {
        "benchmark": {},
        "cnn": {"stages": 5, "kernel": 5},
        "mobilenet_v2": {"dropout": 0.3},
        "vgg16": {},
    }


@pytest.mark.parametrize("side", [50, 53])
@pytest.mark.parametrize("pooling", ["max", "average", "strided"])
@pytest.mark.parametrize("kernel", [1, 2, 4, 7])
def test_any_kernel_keeps_the_side_that_the_poolings_halve(
    side: int, pooling: str, kernel: int
) -> None:
    hparams = {"stages": 2, "width": 2, "kernel": kernel, "pooling": pooling}
    net = build("cnn", (side, side, 3), 2, {**hparams, "head": "flat", "dense": 3})
    assert net(torch.rand(2, 3, side, side)).shape == (2, 2)
    quarter = -(-side // 4) if pooling == "strided" else side // 4
    dense = [one for one in net.modules() if isinstance(one, torch.nn.Linear)]
    assert dense[0].in_features == 4 * quarter**2


def test_a_cnn_has_the_dense_layers_and_dropouts_that_it_is_asked_for() -> None:
    hparams = {
        "head": "flat",
        "dense": 7,
        "hidden_layers": 3,
        "dropout": 0.5,
        "stage_dropout": 0.25,
    }
    net = build("cnn", SHAPE, 2, {**hparams, "stages": 4, "width": 2})
    dense = [one for one in net.modules() if isinstance(one, torch.nn.Linear)]
    assert [one.out_features for one in dense] == [7, 7, 7, 2]
    dropouts = [one for one in net.modules() if isinstance(one, torch.nn.Dropout)]
    assert [one.p for one in dropouts] == [0.25] * 4 + [0.5] * 3
    with pytest.raises(SpaceError, match="hidden_layers 0 is not allowed; choose 1 or more"):
        build("cnn", SHAPE, 2, {"head": "flat", "hidden_layers": 0})


@pytest.mark.parametrize("name", ["p4m", *(name for name in NETS if name.startswith("timm:"))])
def test_a_net_that_a_space_names_is_planned(name: str) -> None:
    space = parse_space({"epochs": 1, "trials": 1, "space": {"architecture": name}}, "x")
    assert space.largest_nets().keys() == {"benchmark", name}


@pytest.mark.parametrize(
    ("name", "least"), [("timm:inception_v4", 75), ("vgg16", 32), ("googlenet", 15)]
)
def test_the_size_that_a_net_is_said_to_need_is_the_least_that_it_takes(
    name: str, least: int
) -> None:
    reject_unfit(name, (least, least, 3), {})
    with pytest.raises(SpaceError, match=f"it needs {least}x{least} or more"):
        reject_unfit(name, (least - 1, 2 * least, 3), {})


def test_a_net_of_a_few_sizes_says_one_that_would_do() -> None:
    with pytest.raises(SpaceError, match=r"of 96x96 \(193x193 would do\); choose another"):
        reject_unfit("timm:efficientformer_l1", (96, 96, 3), {})
    reject_unfit("timm:efficientformer_l1", (193, 193, 3), {})


@pytest.mark.parametrize("tag", ["zz", "*", ""])
def test_a_tag_that_timm_has_not_is_no_fault_of_the_patches(tag: str) -> None:
    reject_unfit("timm:resnet10t.c3_in1k", SHAPE, {})
    with pytest.raises(SpaceError, match=r"timm has no such net; did you mean .*resnet10t"):
        reject_unfit(f"timm:resnet10t.{tag}", SHAPE, {})


def test_a_name_that_timm_has_not_is_told_with_one_that_is_like_it() -> None:
    with pytest.raises(SpaceError, match=r"timm has no such net; did you mean .*resnetv2_152"):
        reject_unfit("timm:resnetv2_512", SHAPE, {})


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_net_can_be_laid_out_channels_last(name: str) -> None:
    """As the choice of numerics tries each."""
    with torch.device("meta"):
        net = build(name, (96, 96, 3), 2, {}).to(memory_format=torch.channels_last)
    filters = [one for one in net.parameters() if one.dim() == 4]
    assert filters
    assert all(one.is_contiguous(memory_format=torch.channels_last) for one in filters)


@pytest.mark.parametrize("side", [24, 25, 50, 52])
def test_the_logits_of_p4m_are_the_same_for_every_flip_and_turn(side: int) -> None:
    torch.manual_seed(0)
    net = build("p4m", (side, side, 3), 2, {"width": 3}).eval()
    for layer in net.modules():
        if isinstance(layer, torch.nn.BatchNorm3d) and layer.running_mean is not None:
            torch.nn.init.uniform_(layer.running_mean, -0.1, 0.1)
    batch = torch.randn(2, 3, side, side)
    plain = build("cnn", (side, side, 3), 2, {"width": 3}).eval()
    with torch.inference_mode():
        logits, other = net(batch), plain(batch)
        assert float((logits[0] - logits[1]).abs().max()) > 1e-3
        for kind in range(1, 8):
            assert torch.allclose(net(turned(batch, kind)), logits, atol=1e-5)
            assert not torch.allclose(plain(turned(batch, kind)), other, atol=1e-5)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("stages", [1, 2, 4])
@pytest.mark.parametrize("head", ["pooled", "flat"])
def test_a_cnn_has_the_stages_and_kernels_that_it_is_asked_for(
    pooling: str, stages: int, head: str
) -> None:
    hparams = {"stages": stages, "kernel": 5, "pooling": pooling, "head": head, "width": 4}
    model = build("cnn", SHAPE, 3, hparams | {"convolutions": 1, "dense": 8}).train()
    kernels = [one.kernel_size for one in model.modules() if isinstance(one, torch.nn.Conv2d)]
    assert kernels == [(5, 5)] * (stages * (2 if pooling == "strided" else 1))
    assert model(torch.zeros(2, 3, 50, 50)).shape == (2, 3)
    with pytest.raises(SpaceError, match="stages 6 is too many for patches of 50x50"):
        reject_unfit("cnn", SHAPE, {"stages": 6})


def test_the_nine_convolution_net_is_one_point_of_the_cnn() -> None:
    hparams = {"convolutions": 3, "width": 32, "head": "flat"}
    model = build("cnn", SHAPE, 2, hparams)
    convolutions = [one for one in model.modules() if isinstance(one, torch.nn.Conv2d)]
    assert [one.out_channels for one in convolutions] == [32] * 3 + [64] * 3 + [128] * 3
    dense = [one for one in model.modules() if isinstance(one, torch.nn.Linear)]
    assert [(one.in_features, one.out_features) for one in dense] == [(128 * 36, 256), (256, 2)]
    assert parameters(model) == 1_661_858
    assert parameters(build("benchmark", SHAPE, 2, {})) == 148_354


def test_a_flat_head_has_as_many_hidden_units_as_asked_for() -> None:
    torch.manual_seed(0)
    plain = build("cnn", SHAPE, 2, {"head": "flat"})
    torch.manual_seed(0)
    model = build("cnn", SHAPE, 2, {"head": "flat", "dense": 256})
    for one, other in zip(plain.parameters(), model.parameters(), strict=True):
        assert torch.equal(one, other)
    narrow = build("cnn", SHAPE, 2, {"head": "flat", "dense": 16})
    dense = [one for one in narrow.modules() if isinstance(one, torch.nn.Linear)]
    assert [one.out_features for one in dense] == [16, 2]
    assert parameters(build("cnn", SHAPE, 2, {"dense": 16})) == parameters(
        build("cnn", SHAPE, 2, {})
    )


def test_an_unknown_architecture_is_rejected_with_those_that_are_known() -> None:
    with pytest.raises(SpaceError, match="'alexnet' is unknown; choose one of benchmark, cnn"):
        build("alexnet", SHAPE, 2, {})


@pytest.mark.parametrize(
    ("name", "hparams", "said"),
    [
        ("cnn", {"convolutions": 0}, "convolutions 0 is not allowed; choose 1, 2 or 3"),
        ("cnn", {"dense": 0}, "dense 0 is not allowed; choose 1 or more"),
        ("cnn", {"width": 0}, "width 0 is not allowed; choose 1 or more"),
        ("cnn", {"head": "round"}, "head 'round' is unknown; choose one of pooled, flat"),
        ("vgg16", {"dropout": 2.0}, "vgg16: dropout probability has to be between 0 and 1"),
    ],
)
def test_hyperparameters_that_are_no_net_are_rejected_in_one_line(
    name: str, hparams: dict[str, object], said: str
) -> None:
    with pytest.raises(SpaceError, match=said) as caught:
        build(name, SHAPE, 2, hparams)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["vgg16", "vgg19"])
def test_an_architecture_that_cannot_take_the_patches_says_so_before_anything_runs(
    name: str,
) -> None:
    with pytest.raises(SpaceError, match=f"{name} cannot take patches of 24x24 .*larger"):
        reject_unfit(name, (24, 24, 3), {})


def test_patches_too_small_for_the_poolings_are_rejected() -> None:
    with pytest.raises(SpaceError, match="7x7 are too small"):
        build("cnn", (7, 7, 3), 2, {})


def test_every_hyperparameter_that_a_part_reads_has_limits_and_a_default() -> None:
    for part in (*ALWAYS, *(part for parts in SELECTORS.values() for part in parts.values())):
        for name in hparams_of(part):
            default = inspect.signature(part).parameters[name].default
            if default is None:  # the part's own
                continue
            assert LIMITS[name].error(default) is None, (part, name)


def test_pixels_run_from_minus_one_to_one() -> None:
    pixels = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 4, 4)
    batch = normalised(pixels)
    assert batch.shape == (2, 3, 4, 4)
    assert torch.unique(batch[0]).tolist() == [-1.0]
    assert torch.unique(batch[1]).tolist() == pytest.approx([1.0])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "tta"),
    [
        ("benchmark", "none"),
        ("cnn", "none"),
        ("cnn", "dihedral"),
        ("mobilenet_v3_small", "none"),
        ("p4m", "none"),
    ],
)
def test_an_exported_classifier_takes_any_batch(name: str, tta: str) -> None:
    torch.manual_seed(0)
    net = AVERAGES[tta](build(name, SHAPE, 2, {}))
    model = PatchClassifier(net, PREPROCESSINGS["none"]()).eval()
    two = torch.randint(0, 256, (2, *SHAPE), dtype=torch.uint8)
    five = torch.randint(0, 256, (5, *SHAPE), dtype=torch.uint8)
    batch = torch.export.Dim("batch", min=1, max=4096)
    exported = torch.export.export(model, (two,), dynamic_shapes=({0: batch},)).module()
    with torch.inference_mode():
        for patches in (two, five):
            assert torch.allclose(exported(patches), model(patches), atol=1e-6)
            assert torch.allclose(exported(patches).sum(1), torch.ones(len(patches)))


def test_an_optimizer_without_its_new_hyperparameters_is_torchs_own_default() -> None:
    weight = [torch.nn.Parameter(torch.zeros(1))]
    assert OPTIMIZERS["adamw"](weight).defaults["betas"] == (0.9, 0.999)
    assert OPTIMIZERS["adamw"](weight, beta1=0.5, beta2=0.9).defaults["betas"] == (0.5, 0.9)
    assert OPTIMIZERS["sgd"](weight).defaults["nesterov"] is False
    assert OPTIMIZERS["sgd"](weight, nesterov=True).defaults["nesterov"] is True
    # Nesterov's step of no momentum is the plain one, and torch rejects to be asked for it.
    assert OPTIMIZERS["sgd"](weight, nesterov=True, momentum=0.0).defaults["nesterov"] is False
