"""The signature of a component of the user's declares its hyperparameters."""

import inspect
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from raysearch.config.code_importer import CODE_IMPORTER
from raysearch.config.component_section import user_code
from raysearch.config.custom_components import CustomComponent, check_metric, import_component
from raysearch.config.hyperparameter_readers import is_read
from raysearch.config.hyperparameters import resolve
from raysearch.config.space import Space
from raysearch.config.space_file import parse_space, read_space
from raysearch.config.stored_space import stored_space_error
from raysearch.errors import SpaceError
from raysearch.search.journal.codec import record_from_json, record_to_json
from support.own_components import write_own_components


def build(
    shape: tuple[int, int, int],
    num_classes: int,
    *,
    depth: Annotated[int, Field(ge=1, le=8, description="Blocks")] = 3,
    rate: float = 1,
    gated: bool = False,
    activation: Literal["relu", "gelu"] = "gelu",
    width: int,
) -> None:
    """Build a network."""


def without_type(*, depth=3): ...  # type: ignore[no-untyped-def]


def without_default(*, depth: int) -> None: ...


def of_text(*, form: str = "x") -> None: ...


def reserved(*, kind: int = 1) -> None: ...


def above(*, depth: Annotated[int, Field(gt=1)] = 3) -> None: ...


def positional(logits: object, gamma: float = 2.0) -> None: ...


def of_list(*, kinds: tuple[int, ...] = ()) -> None: ...


def outside(*, depth: Annotated[int, Field(ge=4)] = 3) -> None: ...


def upper(*, Depth: int = 3) -> None: ...  # noqa: N803


def foreign(*, momentum: float) -> None: ...


def of_epochs(*, epochs: int) -> None: ...


def other_depth(*, depth: Annotated[int, Field(ge=1, le=9)] = 3) -> None: ...


def same_depth(*, depth: Annotated[int, Field(ge=1, le=8)] = 5) -> None: ...


HERE = __name__


@pytest.fixture(autouse=True)
def _allowed() -> Iterator[None]:
    names = [name for name, value in globals().items() if inspect.isfunction(value)]
    CODE_IMPORTER.allow_folders([], [f"{HERE}:{name}" for name in names])
    yield
    for module in [name for name in sys.modules if name.startswith("own_")]:
        del sys.modules[module]


def test_a_signature_declares_hyperparameters() -> None:
    component = import_component("architecture", f"{HERE}:build")
    rows = {hparam.name: hparam.row("architecture", "x") for hparam in component.declared}
    assert component.reads == ("width",)
    assert {name: (row.type, row.default) for name, row in rows.items()} == {
        "depth": (int, 3),
        "rate": (float, 1.0),
        "gated": (bool, False),
        "activation": (str, "gelu"),
    }
    assert (rows["depth"].low, rows["depth"].high, rows["depth"].documentation) == (1, 8, "Blocks")
    assert rows["rate"].high == float("inf")
    assert rows["activation"].choices == ("relu", "gelu")
    assert record_from_json(CustomComponent, record_to_json(component)) == component


@pytest.mark.parametrize(
    ("name", "part", "message"),
    [
        ("without_type", "loss", "parameter `depth` has no type; write"),
        ("without_default", "loss", "parameter `depth` has no default; write"),
        ("of_text", "loss", "parameter `form` is a text; name its values, such as Literal"),
        ("of_list", "loss", "parameter `kinds` is neither bool, int, float nor a Literal"),
        ("reserved", "loss", "parameter `kind` has the name of a column of results"),
        ("above", "loss", "has other bounds than `ge` and `le`"),
        ("positional", "loss", "`gamma` has a default and is not keyword-only"),
        ("outside", "loss", "its default 3 is outside 4 to inf"),
        ("upper", "loss", "parameter `Depth` is no name of a hyperparameter"),
        ("foreign", "loss", "`momentum` is a hyperparameter of the optimizer; rename"),
        ("of_epochs", "schedule", "`epochs` is no argument of a component"),
        ("nosuch", "loss", "not run by default"),
    ],
)
def test_what_is_no_hyperparameter_is_rejected(name: str, part: str, message: str) -> None:
    with pytest.raises(SpaceError) as error:
        import_component(part, f"{HERE}:{name}")
    assert message in str(error.value)


def space_of(**hparams: Any) -> Space:
    return parse_space({"space": {"folds": 2, **hparams}}, "x")


def test_declared_hyperparameters_are_checked_as_built_in_ones() -> None:
    name = f"{HERE}:build"
    space = space_of(architecture={"choice": {name: {"depth": {"int": [2, 4]}}, "cnn": {}}})
    depth = space.hyperparameter("depth")
    assert depth is not None
    assert depth.when == (("architecture", (name,)),)
    assert space.table["depth"].documentation == "Blocks"
    assert space.largest_networks()[name] == {"depth": 4}
    assert space_of(architecture=name, width=8, depth=2).values_of("depth") == (2,)
    assert stored_space_error(space) is None
    forged = replace(space, components=())
    assert stored_space_error(forged) == "its hyperparameter 'depth' is unknown"
    for hparams, message in (
        ({"architecture": name, "depth": 9}, "9 is outside 1 to 8"),
        ({"architecture": name, "depth": {"uniform": [1, 2]}}, "depth takes `int`"),
        ({"architecture": name, "dept": 2}, "unknown hyperparameter `dept`; did you mean `depth`"),
        ({"architecture": name, "activation": "tanh"}, "'tanh' is unknown"),
        ({"architecture": name, "kernel_size": 3}, "`kernel_size` has no effect with"),
        ({"architecture": {"choice": [name, "cnn"]}, "depth": 2}, "`depth` has no effect with"),
        ({"architecture": "cnn", "depth": 2}, "unknown hyperparameter `depth`"),
        ({"architecture": name, "adaptation": "frozen", "weights": "x.pt"}, "cannot be used with"),
    ):
        with pytest.raises(SpaceError) as error:
            space_of(**hparams)
        assert message in str(error.value), hparams


def test_a_name_has_one_meaning() -> None:
    first, same, other = (f"{HERE}:{name}" for name in ("build", "same_depth", "other_depth"))
    space = space_of(architecture={"choice": [first, same]}, depth={"int": [1, 8]})
    row = space.table["depth"]
    assert row.components == (first, same)
    assert row.default_for({"architecture": same}) == 5
    with pytest.raises(SpaceError, match="declare `depth` differently; rename one of them"):
        space_of(architecture={"choice": [first, other]})
    with pytest.raises(SpaceError, match="declare `depth` differently; rename one of them"):
        space_of(architecture=first, loss=same)


def test_parameters_of_a_trial_keep_what_components_declare() -> None:
    params = resolve({"architecture": f"{HERE}:build", "depth": 4, "width": 8})
    assert (params.declared, params.width) == ({"depth": 4}, 8)
    assert (params.value("depth"), params.value("width")) == (4, 8)
    assert is_read("depth", params)
    other = resolve({"architecture": "cnn"})
    assert other.value("depth") is None
    assert not is_read("depth", other)
    with pytest.raises(SpaceError, match="unknown hyperparameter `depth`"):
        resolve({"architecture": "cnn", "depth": 4})


def needs_beta(_labels: object, _probabilities: object, *, beta: float) -> None: ...


def test_a_metric_has_no_hyperparameters() -> None:
    with pytest.raises(SpaceError, match="parameter `beta` has no default; a metric has no hyper"):
        check_metric(f"{HERE}:needs_beta")


@pytest.mark.parametrize("name", ["objective", "../x", "<b>", "Depth"])
def test_a_forged_plan_declares_no_other_names(name: str) -> None:
    space = space_of(architecture=f"{HERE}:build", width=8)
    (component,) = space.components
    forged = replace(component.declared[0], name=name)
    components = (replace(component, declared=(forged,)),)
    error = stored_space_error(replace(space, components=components))
    assert error is not None
    assert error.startswith("its component")


def test_a_space_file_finds_the_modules_beside_it(tmp_path: Path) -> None:
    space = read_space(write_own_components(tmp_path / "a", "own_beside"))
    assert [component.part for component in space.components] == [
        *("architecture", "augment", "loss", "optimizer", "preprocess", "schedule"),
    ]
    assert (space.metric, space.mode) == ("own_beside:mean_probability", "max")
    assert space.custom_metrics == ("own_beside:mean_probability",)
    code = user_code(space)
    assert [file.path for file in code.files] == ["own_beside.py", "own_beside_layers.py"]
    assert len(code.import_paths) == 7
    assert code.distributions == ()


def test_a_metric_of_the_users_needs_its_mode(tmp_path: Path) -> None:
    path = write_own_components(tmp_path, "own_metric")
    with pytest.raises(SpaceError, match="`mode: max` or `mode: min` is required"):
        read_space(path, ["objective.mode="])
    with pytest.raises(SpaceError, match="'accuracy' is no import path"):
        read_space(path, ["metrics=[accuracy]"])
    with pytest.raises(SpaceError, match="has no function 'nosuch'"):
        read_space(path, ["objective.metric=own_metric:nosuch"])
