"""All sources: contradictory labels and options without effect are rejected."""

from pathlib import Path
from typing import Any

import pytest

from raysearch.errors import DataError
from support.source_images import (
    noise_patch,
    png_bytes,
    shard_source,
    write_csv_source,
    write_idc_file,
)


def test_two_labels_at_one_position_are_rejected_and_no_file_is_written(tmp_path: Path) -> None:
    for label in (0, 1):
        write_idc_file(tmp_path / "idc", "8863", label, 1, 1, png_bytes(noise_patch(label)))
    with pytest.raises(DataError, match="two labels for patient 8863 at x 1, y 1"):
        shard_source(tmp_path / "idc", tmp_path, "idc")
    assert [path.name for path in tmp_path.iterdir()] == ["idc"]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"patient": "("}, "--patient: has no effect with format csv, only with folder"),
        ({"magnifications": (40,)}, "--magnification: has no effect with format csv"),
        ({"official": "x"}, "--official: has no effect with format csv"),
        ({"classes": ("a", "a")}, "a name is empty or duplicate"),
    ],
)
def test_an_option_without_effect_is_rejected(
    tmp_path: Path, options: dict[str, Any], error: str
) -> None:
    source = write_csv_source(tmp_path / "set", "path,label,patient\n0.png,a,p\n")
    with pytest.raises(DataError, match=error):
        shard_source(source, tmp_path, **options)
