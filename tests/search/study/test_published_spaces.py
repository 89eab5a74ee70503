"""The spaces with published settings can be planned on data of their kind, without the weights."""

import csv
from pathlib import Path

import pytest
from PIL import Image

from raysearch.cli import run
from raysearch.config.space_file import read_space
from raysearch.data.shards.sharding import write_shards
from raysearch.data.sources.pcam import SPLITS
from raysearch.search.study.plan_creation import make_plan
from support.pcam_files import write_pcam
from support.source_images import synthetic_patches

SPACES = Path(__file__).parents[3] / "searchspace"
CANCERS = ("bladder", "breast", "lung", "lymphoma")
WITHOUT_WEIGHTS = ["space.weights=none"]


@pytest.fixture(scope="module")
def idc(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Shards of 80 patients, with patches of the size of IDC."""
    out = tmp_path_factory.mktemp("published") / "shards"
    write_shards("80:400:0", out, "synthetic", workers=1)
    return str(out)


@pytest.fixture(scope="module")
def cores(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Shards of a table of cores: four organs, ten patients of each, one core of a patient."""
    folder = tmp_path_factory.mktemp("cores")
    rows = []
    for number, image in enumerate(synthetic_patches(40)):
        Image.fromarray(image).save(folder / f"{number}.png")
        rows.append((f"{number}.png", CANCERS[number % 4], f"T{number}"))
    with (folder / "cores.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "patient"), *rows])
    write_shards(str(folder / "cores.csv"), folder / "shards", None, workers=1)
    return str(folder / "shards")


@pytest.mark.parametrize(
    ("name", "overrides", "folds"),
    [
        ("idc-cnn-published", [], {5}),
        ("idc-vgg19-published", WITHOUT_WEIGHTS, {5, 7, 10}),
        ("idc-subsets", [], {3}),
        ("breakhis-published", WITHOUT_WEIGHTS, {5}),
    ],
)
def test_the_spaces_of_images_are_planned_with_their_folds(
    name: str, overrides: list[str], folds: set[int], idc: str
) -> None:
    plan, splits = make_plan(read_space(SPACES / f"{name}.yaml", overrides), name, idc)
    assert set(splits) == folds
    assert plan.warnings == ()


def test_cores_of_four_organs_come_from_a_table(cores: str) -> None:
    space = read_space(SPACES / "tma-published.yaml", WITHOUT_WEIGHTS)
    plan, _splits = make_plan(space, "tma", cores)
    assert plan.class_names == CANCERS
    assert sum(plan.class_counts) == 40


def test_confocal_images_are_planned_with_one_patient_left_out(tmp_path: Path) -> None:
    data = str(tmp_path / "secm")
    write_shards("8:80:0", Path(data), "synthetic", workers=1)
    assert run(["split", data, "--name", "loo", "--leave-one-out"]) == 0
    overrides = [*WITHOUT_WEIGHTS, "auxiliary=[]", "space.auxiliary_weight="]
    space = read_space(SPACES / "secm-published.yaml", overrides)
    plan, splits = make_plan(space, "secm", data)
    assert set(splits) == {8}
    assert plan.auxiliary == ()


def test_pcam_is_planned_with_the_split_of_its_official_files(tmp_path: Path) -> None:
    for name in SPLITS:
        write_pcam(tmp_path / "pcam", name)
    data = str(tmp_path / "shards")
    write_shards(str(tmp_path / "pcam"), Path(data), None, workers=1)
    assert run(["split", data, "--name", "official", "--official", "split"]) == 0
    plan, splits = make_plan(read_space(SPACES / "pcam-published.yaml"), "pcam", data)
    assert sum(plan.class_counts) == 12  # without those of the test set
    ((fold,),) = splits.values()
    assert len(fold.train) == len(fold.validation) == 2


def test_the_grid_of_vgg19_begins_with_the_winner_of_its_authors() -> None:
    space = read_space(SPACES / "idc-vgg19-published.yaml")
    (winner,) = map(dict, space.points_to_evaluate)
    assert winner == {
        "optimizer": "sgd",
        "learning_rate": 0.0001,
        "batch_size": 50,
        "epochs": 15,
        "folds": 7,
    }
    assert set(space.values_of("epochs")) == {5, 10, 15}
    assert space.values_of("head_hidden_layers") == (2,)
    assert set(space.values_of("optimizer")) == {"sgd", "adam", "rmsprop", "adadelta"}
    assert set(space.values_of("batch_size")) == {25, 50, 100}
    assert space.values_of("momentum") == (0.2,)
