"""Commands answer without importing the libraries that take seconds to import."""

import subprocess
import sys
from pathlib import Path

import pytest

from raysearch.analysis.stored_importances import write_importances
from support.figure_studies import figure_study

SLOW_LIBRARIES = ("torch", "torchvision", "ray", "mlflow", "sklearn", "scipy", "optuna")
SPACE = """
data: synthetic:12:240:0
epochs: 4
trials: 12
space: {folds: 2, architecture: cnn, learning_rate: {loguniform: [1e-3, 1e-2]}}
"""
CODE = """
import sys
from raysearch.cli import run
exit_code = run(sys.argv[1:])
print("imported:", exit_code, *sorted({name.partition(".")[0] for name in sys.modules}))
"""


def imported_by(folder: Path, *arguments: str, exit_code: int) -> set[str]:
    """Return the top-level packages that are imported after a command has run."""
    process = subprocess.run(
        [sys.executable, "-c", CODE, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    _label, code, *packages = process.stdout.splitlines()[-1].split()
    assert int(code) == exit_code, process.stderr
    return set(packages)


@pytest.fixture(scope="module")
def folder(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a space, a space with a typo, and an ended study."""
    folder = tmp_path_factory.mktemp("latency")
    (folder / "good.yaml").write_text(SPACE)
    (folder / "typo.yaml").write_text(SPACE.replace("learning_rate", "lerning_rate"))
    study = figure_study(shards, folder / "studies" / "ended")
    write_importances(study.folder, study.plan, study.history)
    return folder


@pytest.mark.parametrize(
    ("arguments", "exit_code"),
    [
        (("--help",), 0),
        (("launch", "missing.yaml"), 2),
        (("launch", "typo.yaml"), 2),
        (("results", "ended"), 0),
        (("results", "missing"), 2),
        (("studies",), 0),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_command_imports_no_slow_library(
    folder: Path, arguments: tuple[str, ...], exit_code: int
) -> None:
    packages = imported_by(folder, *arguments, exit_code=exit_code)
    assert packages.isdisjoint((*SLOW_LIBRARIES, "pandas", "numpy", "pyarrow"))


def test_the_help_imports_no_command() -> None:
    code = "import sys; from raysearch.cli import run; run(['--help']); print(*sys.modules)"
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    modules = process.stdout.splitlines()[-1].split()
    names = ("command_table", "error_lines", "output_streams", "supervisor")
    needed = {f"raysearch.cli.{name}" for name in names}
    assert {name for name in modules if name.startswith("raysearch.cli.")} == needed
    assert "pydantic" not in modules


def test_a_dry_run_imports_neither_torch_nor_ray(folder: Path) -> None:
    """Without earlier studies, whose models scikit-learn fits."""
    arguments = ("launch", "good.yaml", "--studies", "none-yet", "--dry-run")
    packages = imported_by(folder, *arguments, exit_code=0)
    assert packages.isdisjoint((*SLOW_LIBRARIES, "pandas"))
