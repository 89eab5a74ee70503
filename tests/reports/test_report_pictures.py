"""The pictures of a report say if their patches are not of the scale of the slide."""

from pathlib import Path

from raysearch.data.shards.sharding import write_shards
from raysearch.reports.report_pictures import scale_note


def test_maps_of_scaled_patches_say_so(tmp_path: Path) -> None:
    for side in (25, 50, 60):
        write_shards("4:16:0", tmp_path / str(side), "synthetic", size=(side, side), workers=1)
    assert scale_note(str(tmp_path / "25")) == (
        "; 16 patches of the shards were scaled to 25x25 pixels, and are drawn smaller than in the"
        " slide"
    )
    assert scale_note(str(tmp_path / "50")) == ""
    assert scale_note(str(tmp_path / "60")) == ""  # padded
