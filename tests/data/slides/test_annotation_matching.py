"""Files of annotations are found by the names of slides and their subfolders."""

from __future__ import annotations

from pathlib import Path

import pytest

from raysearch.data.slides.annotation_matching import find_annotations
from raysearch.errors import DataError


def make_files(folder: Path, *names: str) -> str:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return str(folder)


def matches(folder: Path, files: list[str], slides: list[str]) -> dict[str, str]:
    """Return the file of each slide, relative to the folder."""
    paths = find_annotations(make_files(folder, *files), slides).paths
    return {slide: path.removeprefix(f"{folder}/") for slide, path in paths.items()}


def test_annotations_are_found_by_the_name_of_the_slide_with_and_without_suffix(
    tmp_path: Path,
) -> None:
    folder = make_files(tmp_path, "a.geojson", "b.xml", "c.svs.geojson.gz", "d.1.json", "x.png")
    slides = ["a.svs", "b.ndpi", "c.svs", "d.1.tiff", "e.svs"]
    assert find_annotations(folder, slides).paths == {
        "a.svs": f"{tmp_path}/a.geojson",
        "b.ndpi": f"{tmp_path}/b.xml",
        "c.svs": f"{tmp_path}/c.svs.geojson.gz",
        "d.1.tiff": f"{tmp_path}/d.1.json",
    }


@pytest.mark.parametrize(
    ("files", "slides", "expected"),
    [
        # Slides of one stem have annotations with their suffix.
        (
            ["a.svs.geojson", "a.ndpi.geojson"],
            ["a.svs", "a.ndpi"],
            {"a.svs": "a.svs.geojson", "a.ndpi": "a.ndpi.geojson"},
        ),
        (["a.svs.geojson"], ["a.svs", "a.svs.tiff"], {"a.svs": "a.svs.geojson"}),
        # Slides of one name have annotations in their subfolders; site3 has none.
        (
            ["site1/a.geojson", "site2/a.geojson"],
            ["site1/a.svs", "site2/a.svs", "site3/a.svs"],
            {"site1/a.svs": "site1/a.geojson", "site2/a.svs": "site2/a.geojson"},
        ),
        # One of both may be in a flat folder.
        (["a.geojson"], ["site1/a.svs"], {"site1/a.svs": "a.geojson"}),
        (["site1/a.geojson"], ["a.svs"], {"a.svs": "site1/a.geojson"}),
        # The same subfolder comes first.
        (["a.geojson", "x/a.geojson"], ["x/a.svs"], {"x/a.svs": "x/a.geojson"}),
        (["x/a.geojson"], ["a.svs", "x/a.svs"], {"x/a.svs": "x/a.geojson"}),
        (
            ["site1/a.geojson", "site1/b.geojson"],
            ["site1/b.svs", "site2/a.svs"],
            {"site1/b.svs": "site1/b.geojson"},
        ),
        # Composed and decomposed names are equal.
        (["ka\u0308se.xml"], ["k\u00e4se.svs"], {"k\u00e4se.svs": "ka\u0308se.xml"}),
        (["a.xml"], ["a.svs", "a.svs"], {"a.svs": "a.xml"}),
    ],
)
def test_files_belong_to_slides_of_the_same_name_and_subfolder(
    tmp_path: Path, files: list[str], slides: list[str], expected: dict[str, str]
) -> None:
    assert matches(tmp_path, files, slides) == expected


@pytest.mark.parametrize(
    ("files", "slides", "reason"),
    [
        (["a.geojson", "a.xml"], ["a.svs"], "2 files for the slide a.svs: 'a.geojson', 'a.xml'"),
        (["a.geojson", "a.svs.xml"], ["a.svs"], "2 files for the slide a.svs"),
        (["x/a.geojson", "y/a.geojson"], ["a.svs"], "2 files for the slide a.svs"),
        (["a.geojson"], ["a.svs", "a.ndpi"], "could be of a.ndpi or a.svs; name it"),
        (
            ["a.svs.geojson", "a.geojson"],
            ["a.svs", "a.ndpi"],
            "a.geojson: could be of a.ndpi or a.svs; name it as the slide with its suffix, such as"
            " a.svs.geojson",
        ),
        (["a.geojson"], ["x/a.svs", "y/a.svs"], "could be of x/a.svs or y/a.svs"),
        (["x/a.geojson", "a.geojson"], ["x/a.svs", "y/a.svs"], "/a.geojson: could be of x/a.svs"),
        (["b.geojson"], ["a.svs"], "no annotations of these slides in it (files: 'b.geojson')"),
        (["site1/a.geojson"], ["site2/a.svs"], "no annotations of these slides in it"),
        ([".hidden/a.geojson"], ["a.svs"], "in it (files: none)"),
        ([f"{n}.xml" for n in range(9)], ["a.svs"], "'4.xml' and 4 more)"),
    ],
)
def test_ambiguous_and_foreign_annotations_are_rejected(
    tmp_path: Path, files: list[str], slides: list[str], reason: str
) -> None:
    folder = make_files(tmp_path, *files)
    with pytest.raises(DataError) as error:
        find_annotations(folder, slides)
    assert reason in str(error.value)


def test_a_missing_folder_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a folder"):
        find_annotations(str(tmp_path / "missing"), ["a.svs"])


def test_annotations_of_no_slide_are_listed(tmp_path: Path) -> None:
    folder = make_files(tmp_path, "a.geojson", "b.geojson", "c/d.xml", "x/a.geojson", "y.png")
    annotations = find_annotations(folder, ["a.svs"])
    assert annotations.paths == {"a.svs": f"{tmp_path}/a.geojson"}
    assert annotations.unmatched == ("b.geojson", "c/d.xml", "x/a.geojson")
