"""Shards for the tests of splits."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raysearch.data.shards.sharding import write_shards


@pytest.fixture(scope="package")
def cohort_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of 640 synthetic patches of 64 patients: enough for a test set."""
    out = tmp_path_factory.mktemp("cohort") / "shards"
    write_shards("64:640:3", out, "synthetic", workers=1)
    return out


@pytest.fixture
def two_tasks(tmp_path: Path) -> str:
    """Shards of 72 patients, 30 of whom have a label in an additional task `grade`."""
    images = tmp_path / "images"
    images.mkdir()
    lines = ["path,label,patient,slide,label_grade"]
    for number in range(144):
        noise = np.random.default_rng(number).integers(0, 255, (16, 16, 3), np.uint8)
        Image.fromarray(noise).save(images / f"{number}.png")
        patient = number // 2
        grade = "low" if number % 2 else "high"
        lines.append(
            f"{number}.png,{'no' if number % 2 else 'yes'},p{patient},s{number},"
            f"{grade if patient < 30 else ''}"
        )
    (images / "list.csv").write_text("\n".join(lines) + "\n")
    write_shards(str(images / "list.csv"), tmp_path / "shards", None, workers=1)
    return str(tmp_path / "shards")
