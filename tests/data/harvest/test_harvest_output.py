"""The output folder of a harvest belongs to one source."""

import shutil
from pathlib import Path

from support.harvest_services import HarvestCommand


def test_the_folder_of_another_harvest_is_not_changed(
    harvest: HarvestCommand, papers: Path
) -> None:
    harvest("papers", "out")
    shutil.copytree(papers, harvest.folder / "others")
    assert "out: contains the harvest of" in harvest.one_line_error("others", "out")
