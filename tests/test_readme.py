"""What the README says is so."""

import importlib.metadata
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from conftest import Commands
from raysearch.search.space_file import parse_space, read_space

TOP = Path(__file__).parents[1]
README = (TOP / "README.md").read_text()


def blocks(language: str = "") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


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


def test_every_knob_and_objective_is_in_the_readme() -> None:
    from raysearch.scores.metrics import METRICS
    from raysearch.training.parts import LIMITS

    for name in (*LIMITS, *METRICS):
        assert f"`{name}`" in README, name


def test_the_tree_names_what_is_there() -> None:
    (tree,) = [block for block in blocks() if "src/raysearch/" in block]
    rooms = {line.split()[0].rstrip("/") for line in tree.splitlines() if line.startswith("  ")}
    there = {
        path.name for path in (TOP / "src/raysearch").iterdir() if not path.name.startswith("__")
    }
    assert rooms == there


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


@pytest.mark.slow
def test_the_commands_of_the_readme_run_as_written(run: Commands, tmp_path: Path) -> None:
    """Every `raysearch` line of a plain block, on a small set and two trials."""
    import numpy as np
    from PIL import Image

    (tmp_path / "searchspace").symlink_to(TOP / "searchspace")
    home = tmp_path / "home"
    random = np.random.default_rng(0)
    for patient in range(12):
        for label in (0, 1):
            for x in range(4):
                pixels = random.integers(0, 256, (50, 50, 3), np.uint8)
                name = f"{patient}_idx5_x{x + 1}_y{label + 1}_class{label}.png"
                for place in (f"idc/{patient}/{label}/{name}", f"tissue/{label}/{patient}_{x}.png"):
                    path = home / place
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(pixels).save(path)
    lines = [
        line
        for block in blocks()[2:]
        for line in block.splitlines()
        if line.startswith("raysearch ") and line != "raysearch ui" and "--cluster" not in line
    ]
    assert len(lines) >= 7
    for line in lines:
        words = shlex.split(line.replace("~", str(home)).replace("--trials 16", "--trials 2"))
        out = run(*words[1:]).stdout
        assert out
