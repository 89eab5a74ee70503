"""A registered model answers with class names and decisions, where raysearch is not installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mlflow.models import Model

from raysearch.champion.model_artifact import pack_model_artifact
from raysearch.champion.register import example_batch
from raysearch.champion.stored_champion import load_champion
from raysearch.data.shards.patches import load_patches
from raysearch.metrics.evaluation import ScoredRows
from raysearch.search.study.study import Study
from raysearch.search.tracking.exported_model import save_exported_model
from raysearch.search.tracking.served_model import ServedRule, read_rule
from support.bare_environment import bare_environment

LOAD = """
import sys, mlflow, numpy
model = mlflow.pyfunc.load_model(sys.argv[1], suppress_warnings=True)
patches = numpy.load(sys.argv[2])
print(len(model.predict(patches[:0])), len(model.predict(patches)), "raysearch" in sys.modules)
program = mlflow.pytorch.load_model(sys.argv[1])
print(*model.predict(patches[:1]).columns)
"""


@pytest.mark.parametrize("threshold", [None, 0.3, 0.5])
def test_a_decision_is_the_class_that_an_evaluation_counts(threshold: float | None) -> None:
    names = ("negative", "positive")
    probabilities = np.array([[0.8, 0.2], [0.7, 0.3], [0.6, 0.4], [0.5, 0.5], [0.1, 0.9]])
    columns = ServedRule(names, threshold).columns(probabilities)
    rows = ScoredRows(
        np.zeros(5, np.int64), probabilities, np.arange(5).astype(str), names, threshold
    )
    assert columns["decision"].tolist() == [names[index] for index in rows.predicted]
    assert columns["class"].tolist() == [*["negative"] * 4, "positive"]
    assert columns["probability"].tolist() == [0.8, 0.7, 0.6, 0.5, 0.9]


def test_more_than_two_classes_are_decided_by_the_highest_probability(tmp_path: Path) -> None:
    rule = ServedRule(("a", "b", "ü"), None)
    rule.write(tmp_path)
    assert read_rule(tmp_path) == rule
    columns = rule.columns(np.array([[0.2, 0.3, 0.5], [0.4, 0.35, 0.25]]))
    assert columns["class"].tolist() == columns["decision"].tolist() == ["ü", "a"]


@pytest.fixture(scope="module")
def exported(small_champion_study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The champion of the small study in MLflow's layout, in the folder `model`."""
    study, folder = small_champion_study, tmp_path_factory.mktemp("exported")
    artifact, classifier = load_champion(study.folder, study.plan, study.history)
    file = folder / "raysearch.pt"
    file.write_bytes(pack_model_artifact(artifact, classifier))
    example = example_batch(artifact.shape)
    save_exported_model(folder / "model", classifier, example, Model(), file, artifact.served_rule)
    return folder


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_model_is_loaded_where_only_mlflow_and_torch_are(
    exported: Path, shards: Path, tmp_path: Path
) -> None:
    patches = np.array(load_patches(str(shards)).pixels).reshape(-1, 50, 50, 3)
    np.save(tmp_path / "patches.npy", np.concatenate([patches, patches]))
    result = subprocess.run(
        [sys.executable, "-c", LOAD, str(exported / "model"), str(tmp_path / "patches.npy")],
        cwd=tmp_path,
        env=bare_environment(tmp_path / "site"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [
        f"0 {2 * len(patches)} False",
        "class probability decision score_negative score_positive",
    ]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_an_exported_model_requires_versions_that_an_index_has(exported: Path) -> None:
    requirements = (exported / "model" / "requirements.txt").read_text().split()
    assert [line.partition("==")[0] for line in requirements] == [
        *("mlflow", "numpy", "pandas", "torch")
    ]
    assert "+" not in "".join(requirements)
    (code,) = (exported / "model" / "code").glob("*.py")
    assert code.name.startswith("raysearch_served_model_")
    assert "import raysearch" not in code.read_text()
    assert "from raysearch" not in code.read_text()
    assert not [path for path in exported.rglob("*") if path.suffix in (".pkl", ".pth")]
