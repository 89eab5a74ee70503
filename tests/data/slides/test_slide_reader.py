"""Slides of scanners are opened by OpenSlide, and OME-TIFF by tifffile, with their properties."""

import os
from pathlib import Path

import numpy as np
import pytest
import tifffile

from raysearch.data.images.decoding import RejectedImageError
from raysearch.data.slides.ome_tiff import OmeTiffReader
from raysearch.data.slides.openslide_reader import OpenSlideReader, scanner_name
from raysearch.data.slides.slide_formats import open_slide
from raysearch.data.slides.slide_reader import (
    SlideLevel,
    check_levels,
    mean_mpp,
    on_white,
)
from raysearch.errors import DataError
from support.scanned_slides import Pixels, aperio_description, write_ome_tiff, write_tiff

SIZE = (700, 500)
# What was found in the shared files.
SHARED_SLIDES = {
    "CMU-1-Small-Region.svs": (2220, 2967, 0.499, "CPAPERIOCS"),
    "boxes_0.dcm": (16, 16, 0.499, "Leica Biosystems Aperio converted by com.pixelmed.convert"),
    "boxes.tiff": (300, 250, 352.8, ""),
}


def random_pixels() -> Pixels:
    shape = (SIZE[1], SIZE[0], 3)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("compression", ["deflate", "jpeg"])
def test_a_pyramid_is_read_as_it_was_written(tmp_path: Path, compression: str) -> None:
    pixels = random_pixels()
    path = write_tiff(tmp_path / "a.tiff", pixels, 0.25, compression=compression)
    with open_slide(path) as slide:
        assert isinstance(slide, OpenSlideReader)
        properties = slide.properties
        assert [(level.width, level.height) for level in properties.levels] == [
            *((700, 500), (350, 250), (175, 125)),
        ]
        assert [level.downsample for level in properties.levels] == [1, 2, 4]
        assert properties.mpp == pytest.approx(0.25)
        assert properties.bounds == (0, 0, 700, 500)
        area = slide.read(0, 100, 50, 300, 200)
        half = slide.read(1, 10, 20, 100, 90)
    if compression == "deflate":
        assert (area == pixels[50:250, 100:400]).all()
        halved = pixels.reshape(250, 2, 350, 2, 3).mean((1, 3)).round()
        assert (half == halved[20:110, 10:110]).all()


def test_a_slide_of_aperio_has_its_resolution_and_its_scanner(tmp_path: Path) -> None:
    description = aperio_description(*SIZE, 0.2527)
    path = write_tiff(
        tmp_path / "a.svs", random_pixels(), None, description=description, compression="jpeg"
    )
    with open_slide(path) as slide:
        assert slide.properties.mpp == 0.2527
        assert slide.properties.scanner == "SS1234"


def test_ome_tiff_is_read_with_all_of_its_levels(tmp_path: Path) -> None:
    pixels = random_pixels()
    path = write_ome_tiff(tmp_path / "a.ome.tif", pixels, 0.3)
    with open_slide(path) as slide:
        assert isinstance(slide, OmeTiffReader)
        properties = slide.properties
        assert [level.downsample for level in properties.levels] == [1, 2, 4]
        assert properties.mpp == pytest.approx(0.3)
        assert (slide.read(0, 250, 240, 270, 260) == pixels[240:500, 250:520]).all()
        assert (slide.read(1, 200, 100, 60, 70) == pixels[::2, ::2][100:170, 200:260]).all()


@pytest.mark.parametrize("suffix", [".tiff", ".ome.tif"])
def test_what_is_outside_of_a_slide_is_white(tmp_path: Path, suffix: str) -> None:
    pixels = random_pixels()
    write = write_tiff if suffix == ".tiff" else write_ome_tiff
    with open_slide(write(tmp_path / f"a{suffix}", pixels)) as slide:
        area = slide.read(0, 690, -10, 30, 40)
    assert (area[:10] == 255).all()
    assert (area[:, 10:] == 255).all()
    assert (area[10:, :10] == pixels[:30, 690:]).all()


@pytest.mark.parametrize("unit", ["nm", "mm"])
def test_units_of_ome_are_converted(tmp_path: Path, unit: str) -> None:
    size = {"nm": 500.0, "mm": 0.0005}[unit]
    metadata = {"axes": "YXS"}
    for axis in "XY":
        metadata |= {f"PhysicalSize{axis}": size, f"PhysicalSize{axis}Unit": unit}  # type: ignore[dict-item]
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, random_pixels(), photometric="rgb", tile=(256, 256), metadata=metadata)
    with open_slide(path) as slide:
        assert slide.properties.mpp == pytest.approx(0.5)


def test_ome_tiff_that_is_not_rgb_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, np.zeros((2, 300, 300), np.uint16), tile=(256, 256))
    with pytest.raises(RejectedImageError, match="1 channels of 16 bits, not RGB of 8 bits"):
        open_slide(path)


def test_a_truncated_slide_is_damaged(tmp_path: Path) -> None:
    for name, write in (("a.tiff", write_tiff), ("a.ome.tif", write_ome_tiff)):
        path = write(tmp_path / name, random_pixels(), levels=1)
        content = path.read_bytes()
        directory = int.from_bytes(content[4:8], "little")
        # The directory at the end stays, and the tiles before it are overwritten or cut off.
        if directory > len(content) // 2:
            path.write_bytes(content[:16] + b"\0" * (directory - 16) + content[directory:])
        else:
            path.write_bytes(content[: len(content) // 2])
        with pytest.raises(RejectedImageError), open_slide(path) as slide:
            slide.read(0, 0, 0, *SIZE)


def test_what_is_no_slide_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "a.svs"
    path.write_bytes(b"no slide")
    with pytest.raises(RejectedImageError, match="no slide of a format that OpenSlide reads"):
        open_slide(path)


def test_a_file_that_is_gone_is_an_error_of_its_storage(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.svs: cannot be read .* check that its storage"):
        open_slide(tmp_path / "a.svs")


@pytest.mark.parametrize(
    ("level", "is_allowed"),
    [
        (SlideLevel(100, 100, 1.0), True),
        (SlideLevel(0, 100, 1.0), False),
        (SlideLevel(3_000_000, 100, 1.0), False),
    ],
)
def test_impossible_sizes_are_rejected(level: SlideLevel, is_allowed: bool) -> None:
    if is_allowed:
        check_levels((level,))
        return
    with pytest.raises(RejectedImageError, match="a level of"):
        check_levels((level,))


def test_no_level_is_rejected() -> None:
    with pytest.raises(RejectedImageError, match="no level"):
        check_levels(())


@pytest.mark.parametrize(
    ("values", "mpp"),
    [
        (("0.25", "0.25"), 0.25),
        (("0.25", None), 0.25),
        ((0.5, 0.52), 0.51),
        ((None, None), None),
        (("0", "nan"), None),
        (("inf", "-1"), None),
    ],
)
def test_the_resolution_is_the_mean_of_both_axes(
    values: tuple[object, object], mpp: float | None
) -> None:
    assert mean_mpp(*values) == (mpp if mpp is None else pytest.approx(mpp))


def test_pixels_that_are_not_square_are_rejected() -> None:
    with pytest.raises(RejectedImageError, match=r"not square: 0\.25 x 0\.5"):
        mean_mpp(0.25, 0.5)


def test_the_name_of_a_scanner_is_one_printable_line() -> None:
    properties = {
        "dicom.Manufacturer": "A\nB",
        "dicom.ManufacturerModelName": " C\x1b[31m" + "x" * 200,
    }
    name = scanner_name(properties)
    assert name.startswith("A B C [31mxxx")
    assert len(name) == 100
    assert scanner_name({}) == ""


def test_transparent_pixels_are_blended_with_white() -> None:
    pixels = np.array([[[10, 20, 30, 255], [0, 0, 0, 0], [100, 100, 100, 51]]], np.uint8)
    assert on_white(pixels).tolist() == [[[10, 20, 30], [255, 255, 255], [224, 224, 224]]]


@pytest.mark.parametrize("name", sorted(SHARED_SLIDES))
def test_slides_of_scanners_are_read(name: str) -> None:
    shared = os.environ.get("RAYSEARCH_SHARED")
    if not shared:
        pytest.skip("RAYSEARCH_SHARED is not set")
    width, height, mpp, scanner = SHARED_SLIDES[name]
    with open_slide(Path(shared) / "data" / "slides" / name) as slide:
        properties = slide.properties
        assert (properties.width, properties.height) == (width, height)
        assert properties.mpp == pytest.approx(mpp, rel=1e-3)
        assert properties.scanner.startswith(scanner)
        assert slide.read(0, 0, 0, 16, 16).shape == (16, 16, 3)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("unopenable.tiff", "Unsupported TIFF compression"), ("unreadable.svs", "Bogus marker")],
)
def test_damaged_slides_of_scanners_are_rejected(name: str, reason: str) -> None:
    shared = os.environ.get("RAYSEARCH_SHARED")
    if not shared:
        pytest.skip("RAYSEARCH_SHARED is not set")
    path = Path(shared) / "data" / "slides" / name
    with pytest.raises(RejectedImageError, match=reason), open_slide(path) as slide:
        slide.read(0, 0, 0, 16, 16)
