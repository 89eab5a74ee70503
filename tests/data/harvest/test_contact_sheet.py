"""Contact sheets show selected images above excluded ones."""

from pathlib import Path

import numpy as np
from PIL import Image

from raysearch.data.harvest.harvest_settings import Purple
from raysearch.data.harvest.tissue_tiles import purple_mask
from support.harvest_services import (
    HarvestCommand,
    build_pdf,
    image_object,
    plot_image,
    tissue_image,
)

PLOT_BLUE = (31, 119, 180)


def test_selected_images_are_above_excluded_images(harvest: HarvestCommand, tmp_path: Path) -> None:
    (tmp_path / "papers").mkdir()
    tissue_pages = [[image_object(tissue_image(number, 2, 2))] for number in range(61)]
    content = build_pdf(*tissue_pages, [image_object(plot_image(1))])
    (tmp_path / "papers" / "a.pdf").write_bytes(content)
    summary = harvest.summary("papers", "out")
    out = harvest.folder / "out"
    names = [Path(name).name for name in summary["contact_sheets"]]
    assert names == ["contact.png", "contact-2.png"]
    first, second = (np.asarray(Image.open(out / name)) for name in names)
    assert first.shape[0] > second.shape[0]
    # Only the plot has blue bars.
    is_blue = (first == PLOT_BLUE).all(2)
    assert is_blue.any()
    above_plot = purple_mask(np.ascontiguousarray(first), Purple())[: is_blue.any(1).argmax()]
    assert above_plot.mean() > 0.2
    assert not (second == PLOT_BLUE).all(2).any()
    content = build_pdf([image_object(tissue_image(1))])
    (tmp_path / "papers" / "a.pdf").write_bytes(content)
    harvest("papers", "out")
    assert not (out / "contact-2.png").exists()
