"""The documentation agrees with the program: its commands run, and its examples are valid."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from packaging.requirements import Requirement
from PIL import Image

from conftest import Commands
from raysearch.cli.command_table import COMMANDS, load_command
from raysearch.config.hyperparameters import HYPERPARAMETERS
from raysearch.config.names import OBJECTIVES
from raysearch.config.space_file import parse_space, read_space
from raysearch.data.sources.breakhis import SUBTYPES
from raysearch.reports.published_results import check_published, read_published
from support.harvest_services import FakeNcbi, build_pdf, image_object, serve, tissue_image

TOP = Path(__file__).parents[2]
DOCS = TOP / "docs"
README = TOP / "README.md"
TUTORIAL = DOCS / "tutorial.md"
GUIDES = DOCS / "guides"
PAGES = [README, *sorted(page for page in DOCS.rglob("*.md") if "_build" not in page.parts)]
MAX_README_WORDS = 1200

FENCE = re.compile(r"^(`{3,})([^\n]*)\n(.*?)^\1$", re.MULTILINE | re.DOTALL)
CAPTION = re.compile(r"\A:caption: ([^\n]*)\n")
NEEDS = "Needs "
PART_OF_SPACE = "Part of a space file"
PYTHON = "python "
# The accessions that the authors' split of BreakHis has on both sides.
LEAKING = ("13412", "18842", "19979", "22549", "29960")
# A space file to which the examples of single keys are added.
SMALLEST_SPACE = {
    "data": "data/idc",
    "objective": {"metric": "accuracy", "mode": "max"},
    "epochs": 4,
    "trials": 2,
    "space": {
        "architecture": "cnn",
        "learning_rate": {"loguniform": [0.0001, 0.01]},
        "batch_size": 64,
        "optimizer": "adamw",
    },
}
# The names that the Python examples use.
PYTHON_PREAMBLE = """
from raysearch.data.shards.patches import load_patches
rows = load_patches("data/idc")
patches = rows.pixels.reshape(-1, *rows.shape)
slides, xs, ys = rows.patients, rows.xs, rows.ys
"""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page; `caption` is empty for an unmarked block."""

    page: Path
    language: str
    caption: str
    text: str

    def commands(self) -> list[str]:
        """The lines after a prompt."""
        return [line[2:] for line in self.text.splitlines() if line.startswith("$ ")]


def blocks_of(page: Path) -> Iterator[Block]:
    for _, info, text in FENCE.findall(page.read_text()):
        language = info.removeprefix("{code-block}").strip()
        caption = CAPTION.match(text)
        yield Block(
            page,
            language,
            caption[1] if caption else "",
            text[caption.end() :] if caption else text,
        )


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def unmarked(page: Path, language: str) -> list[Block]:
    return [block for block in blocks_of(page) if block.language == language and not block.caption]


def identify(block: Block) -> str:
    return f"{block.page.stem}:{block.text.split(maxsplit=1)[0]}"


# README


def test_the_two_commands_stand_alone_before_any_other_mention() -> None:
    text = README.read_text()
    launch, tests = (block.text.strip() for block in list(blocks_of(README))[:2])
    assert launch == "./install.sh && .venv/bin/raysearch launch searchspace/quickstart.yaml"
    assert tests == "./install.sh dev && .venv/bin/pytest"
    assert "\n" not in launch + tests
    assert text.index("raysearch launch") > text.index(launch)
    assert text.index("pytest") > text.index(tests)


def test_the_readme_is_short() -> None:
    assert len(README.read_text().split()) <= MAX_README_WORDS


def test_the_links_of_the_readme_lead_to_files() -> None:
    targets = re.findall(r"\]\(([^)#]+)", README.read_text())
    assert len(targets) >= 10
    missing = [target for target in targets if not (TOP / target).exists()]
    assert missing == []


# Examples


def test_every_marked_block_says_what_it_needs_or_what_it_is_part_of() -> None:
    captions = {block.language: [] for block in BLOCKS}  # type: dict[str, list[str]]
    for block in BLOCKS:
        captions[block.language] += [block.caption] if block.caption else []
    assert captions["console"]
    assert [text for text in captions.pop("console") if not text.startswith(NEEDS)] == []
    assert {text for texts in captions.values() for text in texts} <= {PART_OF_SPACE}


def test_no_block_of_console_commands_lacks_the_prompt() -> None:
    texts = [block.text for block in BLOCKS if block.language == "console" and not block.commands()]
    assert texts == []


def test_every_command_of_the_documentation_has_the_options_that_exist() -> None:
    """The marked blocks, too, and the overview of the README, which has comments."""
    (overview,) = [block.text for block in BLOCKS if block.text.startswith("raysearch shard")]
    lines = [re.split(" {3,}", line)[0] for line in overview.splitlines()]
    lines += [line for block in BLOCKS if block.language == "console" for line in block.commands()]
    commands = [re.sub(r"^(\w+=\S+ )*", "", line) for line in lines]
    words = [shlex.split(line)[1:] for line in commands if line.startswith("raysearch ")]
    assert len(words) >= 50
    for name, *arguments in words:
        command = load_command(name)
        subcommand = getattr(command, "commands", {}).get(arguments[0] if arguments else "")
        if subcommand:
            subcommand.make_context(name, arguments[1:])
        else:
            command.make_context(name, arguments)  # raises an error for an unknown option


@pytest.mark.parametrize(
    "block", [block for block in BLOCKS if block.language == "yaml"], ids=identify
)
def test_every_yaml_example_is_valid(block: Block, tmp_path: Path) -> None:
    content: dict[str, Any] = yaml.safe_load(block.text)
    if block.caption == PART_OF_SPACE:
        parse_space({**SMALLEST_SPACE, **content}, block.page.name)
    elif "space" in content:
        parse_space(content, block.page.name)
    else:
        (tmp_path / "figures.yaml").write_text(block.text)
        assert check_published(read_published(tmp_path / "figures.yaml")) == []


@pytest.mark.parametrize("path", sorted((TOP / "searchspace").glob("*.yaml")), ids=lambda p: p.name)
def test_every_space_opens_with_its_command_its_cost_and_its_result(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert lines[0].startswith(f"# raysearch launch searchspace/{path.name}")
    opening = [line for line in lines[:8] if line.startswith("#")]
    assert any("minute" in line for line in opening)
    assert any("AUROC" in line for line in opening)
    read_space(path)


def test_the_messages_of_the_troubleshooting_page_are_in_the_source() -> None:
    texts = "\n".join(source_texts())
    rows = re.findall(
        r"^\| (`[^|]*`) \|", (GUIDES / "troubleshooting.md").read_text(), re.MULTILINE
    )
    messages = [message for row in rows for message in re.findall("`(.*?)`", row)]
    assert len(messages) >= 30
    missing = [
        message
        for message in messages
        if not re.search(r"[^\n]{0,80}?".join(map(re.escape, message.split(" ... "))), texts)
    ]
    assert missing == []


def test_each_row_of_the_troubleshooting_page_has_a_cause_and_a_command_that_exists() -> None:
    lines = (GUIDES / "troubleshooting.md").read_text().splitlines()
    rows = [line for line in lines if line.startswith("| ") and not line.startswith("| message")]
    assert len(rows) >= 80
    for row in rows:
        symptom, cause, action = row.strip("| ").split(" | ")
        assert min(map(len, (symptom, cause, action))) >= len("Wait."), row
        for command in re.findall(r"`raysearch (?:--allow )?([a-z]+)", action):
            assert command in COMMANDS, (command, row)


def source_texts() -> Iterator[str]:
    """The string literals of the package; a formatted one with a space for each value."""
    for path in (TOP / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [
                    part.value if isinstance(part, ast.Constant) else " " for part in node.values
                ]
                yield "".join(map(str, parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


# The built pages.


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built documentation; a warning of Sphinx is an error."""
    out = tmp_path_factory.mktemp("docs") / "html"
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    build = subprocess.run(
        [*command, "-d", str(out.parent / "doctrees"), str(DOCS), str(out)],
        cwd=TOP,
        capture_output=True,
        text=True,
        check=False,
    )
    assert build.returncode == 0, build.stderr
    return out


def test_the_build_has_no_warnings_and_names_every_option_of_a_study(html: Path) -> None:
    hyperparameters = (html / "reference" / "hyperparameters.html").read_text()
    metrics = (html / "reference" / "metrics.html").read_text()
    assert [name for name in HYPERPARAMETERS if f">{name}<" not in hyperparameters] == []
    assert [name for name in OBJECTIVES if f">{name}<" not in metrics] == []


def test_the_architecture_page_names_what_is_there(html: Path) -> None:
    page = (html / "design" / "architecture.html").read_text()
    packages = [path.parent.name for path in (TOP / "src" / "raysearch").glob("*/__init__.py")]
    assert len(packages) >= 10
    assert [name for name in packages if name not in page] == []


def test_every_page_is_reached_from_the_contents(html: Path) -> None:
    pages = {path.relative_to(DOCS).with_suffix(".html") for path in PAGES if path != README}
    assert [str(page) for page in pages if not (html / page).is_file()] == []
    contents = (html / "index.html").read_text()
    assert all(f"{name}/index.html" in contents for name in ("guides", "reference", "design"))


# Versions


def test_lock_constraints_and_what_is_installed_are_the_same_versions() -> None:
    project = tomllib.loads((TOP / "pyproject.toml").read_text())
    constraints = {
        (constraint.name, str(constraint.specifier))
        for constraint in map(Requirement, project["tool"]["uv"]["constraint-dependencies"])
    }
    text = (TOP / "requirements.lock").read_text()
    assert "://" not in text
    lines = [line.rstrip(" \\") for line in text.splitlines() if not line.startswith((" ", "#"))]
    for locked in map(Requirement, lines):
        assert (locked.name, str(locked.specifier)) in constraints
        if locked.marker is None or locked.marker.evaluate():
            installed = importlib.metadata.version(locked.name)
            assert locked.specifier.contains(installed), locked.name


# Commands


class Reader:
    """A reader who types the commands of the pages in a folder that has what they name."""

    def __init__(self, folder: Path, environment: dict[str, str], idc: Path | None = None) -> None:
        self.folder, self.home = folder, folder / "home"
        self.run = Commands(folder, environment)
        (folder / "benchmarks").symlink_to(TOP / "benchmarks")
        shutil.copytree(TOP / "docs/examples", folder / "docs/examples")
        write_spaces(folder / "searchspace")
        write_images(folder, self.home)
        self.idc = idc or self.home / "idc.zip"

    def type_commands(self, page: Path) -> int:
        """Run the unmarked commands of a page; return their number.

        Studies have two trials, and the synthetic set has a fifth of its patches.
        """
        commands = [line for block in unmarked(page, "console") for line in block.commands()]
        for command in commands:
            line = command.replace("~/idc.zip", str(self.idc)).replace("~", str(self.home))
            line = re.sub(r"--trials \d+", "--trials 2", line)
            line = line.replace("24:1200:0", "24:240:0")
            if line.startswith(PYTHON):
                words = [sys.executable, *shlex.split(line.removeprefix(PYTHON))]
                subprocess.run(words, cwd=self.folder, check=True, capture_output=True)
            else:
                program, *words = shlex.split(line)
                assert program == "raysearch", f"{page.name}: mark `{command}` with what it needs"
                assert self.run(*words).stdout, command
        return len(commands)

    def run_python(self, page: Path) -> None:
        """Run the Python examples of a page as one program."""
        examples = [block.text for block in unmarked(page, "python")]
        check = "assert len(probabilities) == len(patches)"
        program = "\n".join((PYTHON_PREAMBLE, *examples, check))
        words = [sys.executable, "-c", program]
        subprocess.run(words, cwd=self.folder, env=self.run.environment, check=True)


def write_spaces(folder: Path) -> None:
    """Write the spaces with three trials of one epoch; repeats are for `idc.yaml` only."""
    folder.mkdir()
    for path in (TOP / "searchspace").glob("*.yaml"):
        text = re.sub(r"^trials: \d+$", "trials: 3", path.read_text(), flags=re.MULTILINE)
        text = re.sub(r"^epochs: \d+$", "epochs: 1", text, flags=re.MULTILINE)
        if path.name != "idc.yaml" and "\nrepeats:" not in text:
            text += "\nrepeats: 0\n"
        (folder / path.name).write_text(text)


def write_images(folder: Path, home: Path) -> None:
    """Write what the commands name: archives, folders of classes, papers, lists of patients."""
    rng = np.random.default_rng(0)

    def write(path: Path, width: int = 50, height: int = 50) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(path)

    for patient, label in product(range(60), (0, 1)):
        name = f"{patient}_idx5_x1_y{label + 1}_class{label}.png"
        write(home / "idc" / str(patient) / str(label) / name)
    for patient, label, x in product(range(12), (0, 1), range(4)):
        write(home / "tissue" / str(label) / f"{patient}_{x}.png")
        write(home / "pcam" / ("train" if x else "valid") / str(label) / f"{patient}_{x}.png")
    shutil.make_archive(str(home / "idc"), "zip", home / "idc")
    for subset, patients in (("train", range(30)), ("val", range(30, 45)), ("test", range(45, 60))):
        (folder / f"cases_{subset}.txt").write_text("\n".join(map(str, patients)))
    lines = []
    tree = home / "tree" / "BreaKHis_v1" / "histology_slides" / "breast"
    accessions = iter((*LEAKING, *map(str, range(100, 119))))
    for index, number in product(range(8), range(3)):
        code, subtype = list(SUBTYPES.items())[index]
        letter, kind = ("B", "benign") if index < 4 else ("M", "malignant")
        accession = next(accessions)
        for slide in "AB":
            name = f"SOB_{letter}_{code}-14-{accession}{slide}"
            image = f"{name}-100-001.png"
            write(tree / kind / "SOB" / subtype / name / "100X" / image, 70, 46)
            is_test = slide == "B" if accession in LEAKING else number % 2
            lines.append(f"{image}|100|1|{'test' if is_test else 'train'}")
    shutil.make_archive(str(home / "BreaKHis_v1"), "gztar", home / "tree")
    (folder / "dsfold1.txt").write_text("\n".join(lines))
    (home / "papers").mkdir()
    (home / "papers" / "a.pdf").write_bytes(build_pdf([image_object(tissue_image(1))]))


def guide_pages() -> list[Path]:
    """The guides in the order of their contents, then the other pages but the tutorial."""
    (contents,) = [
        text
        for _, info, text in FENCE.findall((GUIDES / "index.md").read_text())
        if "toctree" in info
    ]
    guides = [
        GUIDES / f"{name}.md" for name in contents.split() if (GUIDES / f"{name}.md").is_file()
    ]
    assert {*guides, GUIDES / "index.md"} == set(GUIDES.glob("*.md"))
    return guides + [page for page in PAGES if page not in (*guides, TUTORIAL, README)]


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(3600)
def test_the_commands_of_the_tutorial_run_as_written(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """With two trials of one epoch, on the sample of IDC or, if it is missing, generated images."""
    try:
        idc: Path | None = request.getfixturevalue("shared") / "data" / "idc.tar"
    except pytest.skip.Exception:
        idc = None
    reader = Reader(tmp_path, {}, idc)
    (space,) = unmarked(TUTORIAL, "yaml")
    text = re.sub(r"^trials: \d+$", "trials: 2", space.text, flags=re.MULTILINE)
    text = re.sub(r"^epochs: \d+$", "epochs: 1", text, flags=re.MULTILINE)
    (tmp_path / "tutorial.yaml").write_text(text)
    assert reader.type_commands(TUTORIAL) >= 9


@pytest.fixture(scope="module")
def guide_reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """A reader of the guides, in one folder."""
    ncbi = FakeNcbi()
    ncbi.pdfs, ncbi.search_results = {"11": build_pdf([image_object(tissue_image(2))])}, ["11"]
    with serve(ncbi):
        yield Reader(tmp_path_factory.mktemp("guides"), {"RAYSEARCH_NCBI": ncbi.url})


def page_prompts(page: Path) -> int:
    """The number of prompts of a page outside the blocks that need something."""
    return sum(block.text.count("\n$ ") + 1 for block in unmarked(page, "console"))


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "page",
    [page for page in guide_pages() if unmarked(page, "console")],
    ids=lambda page: page.stem,
)
def test_the_commands_of_the_guides_run_as_written(guide_reader: Reader, page: Path) -> None:
    """In the order of the guides, in one folder, on small sets and with two or three trials."""
    assert guide_reader.type_commands(page) == page_prompts(page)


@pytest.mark.slow
@pytest.mark.long
def test_the_python_examples_run_after_the_commands_of_the_guides(guide_reader: Reader) -> None:
    guide_reader.run_python(DOCS / "reference" / "python-api.md")


def test_the_guides_have_commands_that_run() -> None:
    blocks = [block for page in guide_pages() for block in unmarked(page, "console")]
    assert sum(len(block.commands()) for block in blocks) >= 30
