"""The label of a slide, with the patient's name on it, never becomes a patch."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from raysearch.data.images.decoding import RejectedImageError, decode
from raysearch.data.shards.patches import load_patches
from raysearch.data.shards.sharding import write_shards

SIZE = (32, 32)
TISSUE, LABEL_COLOR = (200, 120, 180), (1, 254, 3)


def tiff(*pages: tuple[tuple[int, int, int], str], same_size: bool = False) -> bytes:
    """Return a TIFF file with a page of each color, with a description.

    Each page has half the size of the one before, as the levels of a pyramid, or the `same_size`.
    """
    images = []
    for level, (color, description) in enumerate(pages):
        side = SIZE[0] // (1 if same_size else 2**level)
        image = Image.new("RGB", (side, side), color)
        tags = ImageFileDirectory_v2()
        tags[270] = description
        image.encoderinfo = {"tiffinfo": tags}
        images.append(image)
    content = io.BytesIO()
    images[0].save(
        content,
        "TIFF",
        save_all=True,
        append_images=images[1:],
        tiffinfo=images[0].encoderinfo["tiffinfo"],
    )
    return content.getvalue()


def shown_colors(content: bytes) -> set[tuple[int, ...]]:
    """Return the colors of the decoded patch; none if the file is rejected."""
    try:
        pixels = decode(content, "slide.tif", SIZE).pixels
    except RejectedImageError:
        return set()
    return {tuple(color) for color in np.unique(pixels.reshape(-1, 3), axis=0).tolist()}


@pytest.mark.parametrize("description", ["Aperio Image\r\nlabel 387x463", "Macro", "something"])
def test_the_second_page_of_a_slide_is_never_read(description: str) -> None:
    pages = ((TISSUE, "Aperio Image\r\n32x32"), (LABEL_COLOR, description))
    assert shown_colors(tiff(*pages)) == {TISSUE}
    assert shown_colors(tiff(*pages, same_size=True)) == set()


@pytest.mark.parametrize(
    "description", ["Aperio Image Library v10\r\nlabel 387x463", "Label", "macro 1280x431\n"]
)
def test_a_first_page_that_is_a_label_is_rejected(description: str) -> None:
    with pytest.raises(RejectedImageError, match="label or macro image of a slide"):
        decode(tiff((LABEL_COLOR, description)), "slide.tif", SIZE)


@pytest.mark.parametrize("description", ["", "Aperio Image\r\n32x32", "patches labeled by two"])
def test_other_descriptions_are_accepted(description: str) -> None:
    assert shown_colors(tiff((TISSUE, description))) == {TISSUE}


def test_no_pixel_of_a_label_is_in_the_shards(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for number, name in enumerate(("a", "b")):
        (source / name).mkdir(parents=True)
        Image.new("RGB", SIZE, TISSUE).save(source / name / f"{number}.png")
        pages = ((TISSUE, "Aperio Image\r\n32x32"), (LABEL_COLOR, "Aperio\r\nlabel 387x463"))
        (source / name / "whole.tif").write_bytes(tiff(*pages))
        (source / name / "label.tif").write_bytes(tiff(pages[1]))
        (source / name / "slide.svs").write_bytes(tiff(*pages))
    write_shards(str(source), tmp_path / "out", "folder", size=SIZE, workers=1)
    pixels = load_patches(str(tmp_path / "out"), cache=tmp_path / "cache").pixels
    assert not (pixels.reshape(-1, 3) == LABEL_COLOR).all(axis=1).any()
    rejected = (tmp_path / "out" / "rejected.csv").read_text()
    assert "label.tif" in rejected
    assert "slide.svs" in rejected
