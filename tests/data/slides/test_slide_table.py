"""The table of slides finds each slide by its name, and rejects what is ambiguous."""

from pathlib import Path

import pytest

from raysearch.data.slides.slide_table import SlideRow, read_slide_table
from raysearch.errors import DataError

FILES = ("a.svs", "site1/b.ome.tif", "site1/c.tiff", "site2/c.tiff")


def write(folder: Path, text: str) -> str:
    path = folder / "slides.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


def test_slides_are_found_by_path_or_name_with_or_without_suffix(tmp_path: Path) -> None:
    text = (
        "\ufeffslide, label ,patient,site,scanner,split\n"
        "a, tumor ,p1,north,X1,Train\nb.ome.tif,normal,p2,,,\nsite1/c,,p3,,,test\n"
        "site2/c.tiff,normal,p4,,,\nother,tumor,p5,,,\n"
    )
    table = read_slide_table(write(tmp_path, text), FILES)
    assert table.rows == {
        "a.svs": SlideRow("tumor", "p1", "north", "X1", "train"),
        "site1/b.ome.tif": SlideRow("normal", "p2"),
        "site1/c.tiff": SlideRow("", "p3", split="test"),
        "site2/c.tiff": SlideRow("normal", "p4"),
    }
    assert table.unmatched == ("other",)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("label\nx\n", "no column 'slide'"),
        ("slide\na\n", "no other column"),
        ("slide,label,mpp\na,x,1\n", "column 'mpp' is unknown"),
        ("slide,label,label\na,x,y\n", "column 'label' twice"),
        ("slide,label\na\n", "line 2 has not as many fields"),
        ("slide,label\na,x\na.svs,y\n", "line 3: slide 'a.svs' for the second time"),
        ("slide,label\nc,x\n", "line 2: slide 'c' could be 'site1/c.tiff', 'site2/c.tiff'"),
        ("slide,label\nz,x\n", r"none of its slides \('z'\) is among the files \('a.svs'"),
        ("slide,split\na,first\n", "line 2: split 'first' is none of train, valid, test"),
        ('slide,label\n"a,x\n', "line 1: unexpected end of data"),
        ("slide,label\na,x\x01y\n", "line 2: the class name .* has a control character"),
    ],
)
def test_a_table_that_cannot_be_used_is_an_error(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(DataError, match=reason) as error:
        read_slide_table(write(tmp_path, text), FILES)
    assert str(error.value).startswith(f"{tmp_path}/slides.csv: ")


def test_a_table_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file; give a CSV file with slide"):
        read_slide_table(str(tmp_path / "none.csv"), FILES)
    (tmp_path / "latin.csv").write_bytes("slide,label\na,j\xe4\n".encode("latin-1"))
    with pytest.raises(DataError, match="not UTF-8"):
        read_slide_table(str(tmp_path / "latin.csv"), FILES)
