"""Small image folders to shard."""

from pathlib import Path

import pytest

from support.source_images import noise_patch, png_bytes, write_idc_file


@pytest.fixture
def idc(tmp_path: Path) -> Path:
    """Eight patches of two patients in the layout of IDC."""
    root = tmp_path / "idc"
    for patient in ("8863", "8864"):
        for label in (0, 1):
            for x in (1, 51):
                patch = noise_patch(int(patient) + label + x)
                write_idc_file(root, patient, label, x, 1 + 50 * label, png_bytes(patch))
    return root


@pytest.fixture
def class_folders(tmp_path: Path) -> Path:
    """Four patches in two class folders, one of them smaller than the others."""
    root = tmp_path / "tissue"
    for number, (name, height, width) in enumerate(
        [("benign", 40, 60), ("benign", 40, 60), ("tumor", 40, 60), ("tumor", 20, 30)]
    ):
        path = root / name / f"case{number % 2}_{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png_bytes(noise_patch(number, height, width)))
    return root
