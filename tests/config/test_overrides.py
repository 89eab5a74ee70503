"""Values on the command line replace, add and remove those of a space file."""

from pathlib import Path

import pytest

from raysearch.config.space import Space
from raysearch.config.space_file import read_space
from raysearch.errors import SpaceError

SPACE = """
epochs: 10
stopping: {rule: asha}
space:
  architecture: {choice: {cnn: {width: 8}, resnet18: {}}}
  learning_rate: {loguniform: [1e-4, 1e-2]}
"""


def read(folder: Path, *overrides: str) -> Space:
    path = folder / "space.yaml"
    path.write_text(SPACE)
    return read_space(path, overrides)


def test_an_override_replaces_adds_and_removes_values(tmp_path: Path) -> None:
    space = read(
        tmp_path,
        "epochs=2",
        "trials=7",
        "stopping=",
        "space.architecture=resnet18",
        "space.learning_rate.loguniform=[1e-5, 1e-3]",
        "space.optimizer={choice: [adam, sgd]}",
    )
    values = {hparam.name: hparam.values for hparam in space.hparams}
    names = ("architecture", "learning_rate", "optimizer", "width")
    assert (space.epochs, space.trials) == (2, 7)
    assert space.stopping.rule == "forest"
    assert {name: value for name, value in values.items() if name in names} == {
        "architecture": ("resnet18",),
        "learning_rate": (1e-5, 1e-3),
        "optimizer": ("adam", "sgd"),
    }


def test_without_overrides_the_file_is_unchanged(tmp_path: Path) -> None:
    assert read(tmp_path) == read(tmp_path, "epochs=10")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("epochs", "epochs: not an override; write KEY=VALUE"),
        ("=3", "=3: not an override"),
        ("space..width=3", "space..width=3: not an override"),
        ("epochs=[", "epochs=[: not YAML: line 1: "),
        ("epochs.x=3", "epochs.x=3: `epochs` is 10, which has no `x`; override `epochs` itself"),
        ("space.learning=", "no such key to remove; did you mean `learning_rate`? (known: "),
        ("epochs=many", "override epochs=many: epochs: 'many' is not an integer"),
        ("space.momentom=.9", "override space.momentom=.9: space.momentom: unknown hyperparam"),
        ("epochs={a: *b}", "epochs={a: *b}: not YAML: line 1: aliases"),
    ],
)
def test_a_bad_override_is_rejected_in_one_line(
    tmp_path: Path, override: str, message: str
) -> None:
    with pytest.raises(SpaceError) as rejected:
        read(tmp_path, override)
    assert message in str(rejected.value)
    assert "\n" not in str(rejected.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("foo=", "foo=: there is no such key to remove (nearest of "),
        ("space.foo=", "space.foo=: there is no such key to remove (there are none)"),
    ],
)
def test_a_key_to_remove_is_compared_with_keys_of_any_type(
    tmp_path: Path, override: str, message: str
) -> None:
    path = tmp_path / "space.yaml"
    path.write_text("5: x\ntrue: y\n1.5: z\nepochs: 2\ntrials: 3\nseed: 1\nspace: {}\n")
    with pytest.raises(SpaceError) as rejected:
        read_space(path, [override])
    assert message in str(rejected.value)


@pytest.mark.parametrize(
    ("override", "advice"),
    [
        ("space.batch_size=[16, 32, 64]", ["{choice: [16, 32, 64]}"]),
        ("space.batch_size=[16, 64]", ["{choice: [16, 64]}", "{int: [16, 64]}"]),
        ("space.batch_size=[64, 16]", ["{choice: [64, 16]}"]),
        ("space.learning_rate=[0.001]", ["{choice: [0.001]}"]),
        (
            "space.learning_rate=[0.001, 0.1]",
            ["{choice: [0.001, 0.1]}", "{loguniform: [0.001, 0.1]}"],
        ),
        ("space.dropout=[0, 0.5]", ["{choice: [0, 0.5]}", "{uniform: [0, 0.5]}"]),
        ("space.class_weights=[true, false]", ["{choice: [true, false]}"]),
    ],
)
def test_the_advice_on_a_list_is_accepted(tmp_path: Path, override: str, advice: list[str]) -> None:
    name = override.partition("=")[0].removeprefix("space.")
    with pytest.raises(SpaceError) as rejected:
        read(tmp_path, override)
    ways = " or ".join(f"`{name}: {way}`" for way in advice)
    assert str(rejected.value).endswith(f"; write {ways}")
    for way in advice:
        read(tmp_path, "space.architecture=vgg16", f"space.{name}={way}")
