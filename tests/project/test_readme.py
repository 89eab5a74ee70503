"""What the README says is so."""

import importlib.metadata
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import yaml
from packaging.requirements import Requirement
from PIL import Image

from conftest import Commands
from raysearch.config.space_file import parse_space, read_space
from raysearch.data.sources.breakhis import SUBTYPES
from raysearch.reports.published_results import check_published, read_published
from support.harvest_services import FakeNcbi, build_pdf, image_object, serve, tissue_image

TOP = Path(__file__).parents[2]
README = (TOP / "README.md").read_text()


def blocks(language: str = "") -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return [text for name, text in found if name == language]


def test_the_two_commands_stand_alone_before_any_other_mention() -> None:
    main, tests = (block.strip() for block in blocks()[:2])
    assert main.endswith("uv run raysearch launch searchspace/quickstart.yaml")
    assert tests.endswith("uv run pytest")
    assert "\n" not in main + tests
    assert README.index("raysearch launch") > README.index(main)
    assert README.index("pytest") > README.index(tests)


def test_the_example_space_is_a_good_one() -> None:
    (example,) = blocks("yaml")
    space = parse_space(yaml.safe_load(re.sub(r"(\d)e", r"\1e", example)), "README")
    assert space.trials == 16


@pytest.mark.parametrize("path", sorted((TOP / "searchspace").glob("*.yaml")), ids=lambda p: p.name)
def test_every_space_opens_with_its_command_its_cost_and_its_result(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert lines[0].startswith(f"# raysearch launch searchspace/{path.name}")
    opening = [line for line in lines[:8] if line.startswith("#")]
    assert any("minute" in line for line in opening)
    assert any("AUROC" in line for line in opening)
    read_space(path)


def test_every_hyperparameter_and_objective_is_in_the_readme() -> None:
    from raysearch.config.hyperparameters import HYPERPARAMETERS
    from raysearch.config.names import OBJECTIVES

    for name in (*HYPERPARAMETERS, *OBJECTIVES):
        assert f"`{name}`" in README, name


def test_the_tree_names_what_is_there() -> None:
    (tree,) = [block for block in blocks() if "src/raysearch/" in block]
    house = TOP / "src/raysearch"
    rooms = re.findall(r"^ {2}(\w\S*?)/? ", tree, re.MULTILINE)
    assert set(rooms) == {one.name for one in house.iterdir() if not one.name.startswith("__")}
    packages = re.findall(r"^ {4}(\w+)/ ", tree, re.MULTILINE)
    assert set(packages) == {one.parent.name for one in house.glob("search/*/__init__.py")}


def test_lock_constraints_and_what_is_installed_are_the_same_versions() -> None:
    project = tomllib.loads((TOP / "pyproject.toml").read_text())
    constraints = {
        (one.name, str(one.specifier)): one
        for one in map(Requirement, project["tool"]["uv"]["constraint-dependencies"])
    }
    text = (TOP / "requirements.lock").read_text()
    assert "://" not in text
    locked = [line.rstrip(" \\") for line in text.splitlines() if not line.startswith((" ", "#"))]
    for one in map(Requirement, locked):
        assert (one.name, str(one.specifier)) in constraints
        if one.marker is None or one.marker.evaluate():
            assert one.specifier.contains(importlib.metadata.version(one.name)), one.name


SCRIPT = "uv run python benchmarks/drawn_sets.py "
# What the reader of a Python block has.
AT_HAND = """
from raysearch.data.shards.patches import load_patches
rows = load_patches("data/idc")
patches = rows.pixels.reshape(-1, *rows.shape)
slides, xs, ys = rows.patients, rows.xs, rows.ys
"""
LEAKING = ("13412", "18842", "19979", "22549", "29960")


def write_sets(here: Path, home: Path) -> None:
    """What the README's commands name: archives, a folder a class, papers, lists of patients."""
    random = np.random.default_rng(0)

    def write(path: Path, width: int = 50, height: int = 50) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8)).save(path)

    for patient, label, x in product(range(12), (0, 1), range(4)):
        name = f"{patient}_idx5_x{x + 1}_y{label + 1}_class{label}.png"
        write(home / "idc" / str(patient) / str(label) / name)
        write(home / "tissue" / str(label) / f"{patient}_{x}.png")
        write(home / "pcam" / ("train" if x else "valid") / str(label) / f"{patient}_{x}.png")
    shutil.make_archive(str(home / "idc"), "zip", home / "idc")
    lines = []
    tree = home / "tree" / "BreaKHis_v1" / "histology_slides" / "breast"
    accessions = iter((*LEAKING, *map(str, range(100, 119))))
    for place, number in product(range(8), range(3)):
        code, subtype = list(SUBTYPES.items())[place]
        letter, kind = ("B", "benign") if place < 4 else ("M", "malignant")
        accession = next(accessions)
        for slide in "AB":
            name = f"SOB_{letter}_{code}-14-{accession}{slide}"
            picture = f"{name}-100-001.png"
            write(tree / kind / "SOB" / subtype / name / "100X" / picture, 70, 46)
            judged = slide == "B" if accession in LEAKING else number % 2
            lines.append(f"{picture}|100|1|{'test' if judged else 'train'}")
    shutil.make_archive(str(home / "BreaKHis_v1"), "gztar", home / "tree")
    (here / "dsfold1.txt").write_text("\n".join(lines))
    for part, some in (("train", range(6)), ("val", range(6, 9)), ("test", range(9, 12))):
        (here / f"cases_{part}.txt").write_text("\n".join(map(str, some)))
    (home / "papers").mkdir()
    (home / "papers" / "a.pdf").write_bytes(build_pdf([image_object(tissue_image(1))]))


@pytest.mark.slow
def test_the_commands_of_the_readme_run_as_written(tmp_path: Path) -> None:
    """Every `raysearch` line of a plain block, on small sets and two trials."""
    for folder in ("searchspace", "benchmarks"):
        (tmp_path / folder).symlink_to(TOP / folder)
    home = tmp_path / "home"
    write_sets(tmp_path, home)
    lines = [
        line
        for block in blocks()[2:]
        for line in block.splitlines()
        if line.startswith(("raysearch ", SCRIPT))
        and line != "raysearch ui"
        and "--cluster" not in line
    ]
    assert len(lines) >= 16
    ncbi = FakeNcbi()
    ncbi.pdfs, ncbi.search_results = {"11": build_pdf([image_object(tissue_image(2))])}, ["11"]
    with serve(ncbi):
        run = Commands(tmp_path, {"RAYSEARCH_NCBI": ncbi.url})
        for line in lines:
            words = line.replace("~", str(home)).replace("--trials 16", "--trials 2")
            if line.startswith(SCRIPT):
                script = [sys.executable, *shlex.split(line.removeprefix("uv run python "))]
                subprocess.run(script, cwd=tmp_path, check=True, capture_output=True)
            elif line.startswith("raysearch test "):  # too few patients here to put some aside
                assert "no held-out set" in run(*shlex.split(words)[1:], code=2).stderr
            else:
                assert run(*shlex.split(words)[1:]).stdout, line
        code = "\n".join((AT_HAND, *blocks("python"), "assert len(probabilities) == len(patches)"))
        subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=run.environment, check=True)


def test_the_published_figures_of_the_readme_hold(tmp_path: Path) -> None:
    (figures,) = [block for block in blocks() if block.startswith("name: A paper")]
    (tmp_path / "paper.yaml").write_text(figures)
    assert check_published(read_published(tmp_path / "paper.yaml")) == []
