"""A settings file is validated as a whole, and changes what a harvest selects."""

import json
from pathlib import Path

import pytest

from raysearch.data.harvest.harvest_settings import read_settings
from raysearch.errors import DataError
from support.harvest_services import HarvestCommand, image_rows


def test_all_errors_of_a_settings_file_are_reported_one_per_line(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(
        "purple: {hue: 3, hue_deg: [350, 20], min_fraction: 2}\nlimits: {pages: 1.5}\ncolor: {}\n"
    )
    with pytest.raises(DataError) as raised:
        read_settings(path, 96)
    first, *errors = str(raised.value).splitlines()
    assert first.endswith("bad.yaml: 5 errors:")
    assert sorted(error.strip() for error in errors) == [
        "color: unknown key; allowed keys: purple, limits",
        "limits.pages: 1.5: Input should be a valid integer",
        "purple.hue: unknown key; allowed keys: hue_deg, saturation, value, min_fraction,"
        " min_pixels, min_purple_pixels",
        "purple.hue_deg: [350, 20]: [low, high] must have low <= high",
        "purple.min_fraction: 2: Input should be less than or equal to 1",
    ]


@pytest.mark.usefixtures("papers")
@pytest.mark.parametrize("text", ["[1]", "{", "purple: 3", "!!timestamp x"])
def test_a_file_without_settings_is_rejected_by_name(harvest: HarvestCommand, text: str) -> None:
    (harvest.folder / "bad.yaml").write_text(text)
    assert "bad.yaml: " in harvest.error("papers", "out", "--config", "bad.yaml")


@pytest.mark.usefixtures("papers")
def test_a_settings_file_changes_the_color_filter(harvest: HarvestCommand) -> None:
    (harvest.folder / "blue.yaml").write_text(
        "purple: {hue_deg: [190, 220], saturation: [0.1, 1], min_fraction: 0.05}\n"
    )
    harvest("papers", "out", "--config", "blue.yaml")
    rows = image_rows(harvest.folder / "out")
    assert [row["index"] for row in rows if row["selected"]] == [2]
    stored = json.loads((harvest.folder / "out" / "harvest.json").read_text())
    assert stored["purple"]["hue_deg"] == [190, 220]
