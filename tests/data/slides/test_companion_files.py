"""The other files of a slide are regular files in its folder, before a library opens them."""

import os
from pathlib import Path

import numpy as np
import pytest
import tifffile

from raysearch.data.images.decoding import RejectedImageError
from raysearch.data.slides.companion_files import check_companion_files, companion_files
from raysearch.data.slides.slide_formats import open_slide


def hamamatsu(folder: Path, name: str) -> Path:
    path = folder / "a.vms"
    path.write_text(f"[Virtual Microscope Specimen]\nNoLayers=1\nImageFile={name}\nMapFile=m.jpg\n")
    return path


def mirax(folder: Path, name: str) -> Path:
    (folder / "a").mkdir()
    (folder / "a" / "Slidedat.ini").write_text(f"[DATAFILE]\nFILE_COUNT=1\nFILE_0 = {name}\n")
    (folder / "a.mrxs").touch()
    return folder / "a.mrxs"


@pytest.mark.parametrize("write", [hamamatsu, mirax])
@pytest.mark.parametrize("name", ["../secret.jpg", "/etc/passwd", "..", "b/c.dat", "..\\c.dat"])
def test_a_name_that_leads_out_is_rejected(tmp_path: Path, write: object, name: str) -> None:
    path = write(tmp_path, name)  # type: ignore[operator]
    with pytest.raises(RejectedImageError, match="which is not in its folder"):
        open_slide(path)


@pytest.mark.parametrize("write", [hamamatsu, mirax])
def test_a_pipe_is_rejected_and_not_opened(tmp_path: Path, write: object) -> None:
    path = write(tmp_path, "data.jpg")  # type: ignore[operator]
    folder = tmp_path if write is hamamatsu else tmp_path / "a"
    os.mkfifo(folder / "data.jpg")
    with pytest.raises(RejectedImageError, match=r"'data\.jpg' beside it is a pipe"):
        open_slide(path)


def test_a_pipe_beside_dicom_is_rejected_and_not_opened(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(b"\0" * 128 + b"DICM")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RejectedImageError, match="'pipe' beside it is a pipe"):
        open_slide(tmp_path / "a.dcm")


def test_a_link_out_of_the_folder_is_rejected(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    folder.mkdir()
    (tmp_path / "secret.jpg").touch()
    (folder / "data.jpg").symlink_to(tmp_path / "secret.jpg")
    with pytest.raises(RejectedImageError, match=r"'data\.jpg' is a link out of its folder"):
        check_companion_files(hamamatsu(folder, "data.jpg"))


def test_the_files_of_a_slide_are_found(tmp_path: Path) -> None:
    path = hamamatsu(tmp_path, "data.jpg")
    assert companion_files(path) == [tmp_path / "data.jpg", tmp_path / "m.jpg"]
    check_companion_files(path)
    assert companion_files(mirax(tmp_path, "x.dat")) == [tmp_path / "a" / "Slidedat.ini"]
    assert companion_files(tmp_path / "a.svs") == []


def test_ome_tiff_that_names_another_file_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    pixels = np.zeros((300, 300, 3), np.uint8)
    tifffile.imwrite(path, pixels, photometric="rgb", tile=(256, 256), metadata={"axes": "YXS"})
    os.mkfifo(tmp_path / "pipe.ome.tif")
    text = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels'
        ' ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="300" SizeY="300" SizeC="3"'
        ' SizeZ="1" SizeT="1"><TiffData IFD="0"><UUID FileName="pipe.ome.tif">urn:uuid:1</UUID>'
        "</TiffData></Pixels></Image></OME>"
    )
    tifffile.tiffcomment(path, text)
    with pytest.raises(RejectedImageError, match=r"in another file, 'pipe\.ome\.tif'"):
        open_slide(path)


def test_ome_tiff_of_several_focal_planes_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    pixels = np.zeros((3, 300, 300, 3), np.uint8)
    tifffile.imwrite(path, pixels, photometric="rgb", tile=(256, 256), metadata={"axes": "ZYXS"})
    with pytest.raises(RejectedImageError, match="3 focal planes and 1 times"):
        open_slide(path)


def test_a_compression_of_ome_tiff_that_is_not_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    pixels = np.zeros((300, 300, 3), np.uint8)
    tifffile.imwrite(path, pixels, photometric="rgb", tile=(256, 256), compression="webp")
    with pytest.raises(RejectedImageError, match="compression 50001; write it with JPEG"):
        open_slide(path)


@pytest.mark.parametrize("compression", ["jpeg", "jpeg2000"])
def test_a_tile_with_a_larger_image_is_rejected_before_it_is_decoded(
    tmp_path: Path, compression: str
) -> None:
    small, large = tmp_path / "a.ome.tif", tmp_path / "b.ome.tif"
    for path, side in ((small, 256), (large, 1024)):
        pixels = np.zeros((side, side, 3), np.uint8)
        tifffile.imwrite(
            path, pixels, photometric="rgb", tile=(side, side), compression=compression,
            metadata={"axes": "YXS"},
        )  # fmt: skip
    with tifffile.TiffFile(large) as file:
        page = file.pages[0].aspage()
        offset, count = page.dataoffsets[0], page.databytecounts[0]
    tile = large.read_bytes()[offset : offset + count]
    content = bytearray(small.read_bytes())
    with tifffile.TiffFile(small) as file:
        tags = file.pages[0].aspage().tags
        places = [tags["TileOffsets"].valueoffset, tags["TileByteCounts"].valueoffset]
    for place, value in zip(places, (len(content), count), strict=True):
        content[place : place + 4] = value.to_bytes(4, "little")
    small.write_bytes(content + tile)
    reason = "has an image of 1,024 x 1,024"
    with open_slide(small) as slide, pytest.raises(RejectedImageError, match=reason):
        slide.read(0, 0, 0, 256, 256)
