"""Small image sets with planted problems, and their audits, for the tests of the audit."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from raysearch.data.audit.checks import run_checks
from raysearch.data.audit.findings import ERROR, Finding
from raysearch.data.audit.shard_audit import Audit, audit_shards
from raysearch.data.shards.sharding import write_shards
from raysearch.data.synthetic import synthesize_patches

Images = NDArray[np.uint8]
CLASSES = ("no", "yes")


def distinct_patches() -> Images:
    """Return 64 synthetic patches without duplicates, shape (64, 50, 50, 3)."""
    numbers = np.arange(64)
    return synthesize_patches("8:64:5", numbers, numbers % 2, numbers // 8)


@dataclass
class ImageSet:
    """A folder of images under construction, with one row of a CSV file for each image."""

    folder: Path
    rows: list[dict[str, str]] = field(default_factory=list)

    def add(self, image: Images, patient: str, label: str, **columns: str) -> str:
        """Write an image and return its file name; `columns` are further columns of its row."""
        path = f"{len(self.rows):03d}.png"
        Image.fromarray(np.ascontiguousarray(image)).save(self.folder / path)
        self.rows.append({"path": path, "label": label, "patient": patient, **columns})
        return path

    def shard(self) -> str:
        """Write the shards and return their folder."""
        columns = list(dict.fromkeys(name for row in self.rows for name in row))
        with (self.folder / "set.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(self.rows)
        out = self.folder / "shards"
        write_shards(str(self.folder / "set.csv"), out, "csv", size=(50, 50), workers=1)
        return str(out)


def clean_image_set(folder: Path) -> ImageSet:
    """Return a set of the first 48 distinct patches, from 6 patients, without any problem."""
    image_set = ImageSet(folder)
    for number, patch in enumerate(distinct_patches()[:48]):
        image_set.add(patch, f"p{number // 8}", CLASSES[number % 2])
    return image_set


def audit_by_key(data: str, task: str = "label") -> tuple[Audit, dict[str, Finding]]:
    """Audit shards, and return the audit and its findings by their keys."""
    audit = audit_shards(data, task, 0)
    return audit, {finding.key: finding for finding in run_checks(audit)}


def finding_files(audit: Audit, finding: Finding) -> list[list[str]]:
    """Return the file names of each case of a finding."""
    return [[str(audit.sources.files[row]) for row in rows] for rows in finding.groups]


def error_keys(findings: dict[str, Finding]) -> set[str]:
    """Return the keys of the findings that are errors."""
    return {key for key, finding in findings.items() if finding.severity == ERROR}
