"""Files of annotations are found by the names of slides, and checked against the slides."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from raysearch.data.slides import annotations as annotations_module
from raysearch.data.slides.annotations import (
    AnnotatedRegion,
    SlideAnnotations,
    check_annotated_classes,
    check_in_slide,
    find_annotations,
    read_annotations,
    unmatched_annotations,
)
from raysearch.errors import DataError
from support.annotation_files import (
    asap_annotation,
    asap_file,
    collection,
    feature,
    polygon,
    square,
)

GEOJSON = collection(feature(polygon(square(0, 0, 10))))


def regions_of(*squares: tuple[float, float, float]) -> SlideAnnotations:
    import shapely

    polygons = [shapely.Polygon(square(*corner_and_side)) for corner_and_side in squares]
    return SlideAnnotations(tuple(AnnotatedRegion("Tumor", part) for part in polygons))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.geojson", GEOJSON),
        ("a.json", GEOJSON),
        ("a.svs.GeoJSON", GEOJSON),
        ("a.geojson", b"\xef\xbb\xbf" + GEOJSON),
        ("a.geojson.gz", gzip.compress(GEOJSON)),
        ("a.xml", asap_file(asap_annotation(square(0, 0, 10)))),
    ],
)
def test_each_format_is_read_by_its_suffix(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    annotations = read_annotations(str(tmp_path / name))
    assert annotations.class_names == ("Tumor",)
    assert [region.geometry.area for region in annotations.regions] == [100]


def test_a_relative_path_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.geojson").write_bytes(GEOJSON)
    monkeypatch.chdir(tmp_path)
    assert len(read_annotations("a.geojson").regions) == 1


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("missing.geojson", None, "cannot be read"),
        ("a.txt", b"", "not a file of annotations"),
        ("a.geojson.gz", GEOJSON, "cannot be read"),
        ("a.geojson.gz", gzip.compress(GEOJSON)[:-12], "cannot be read"),
        ("a.geojson", b"<xml/>", "not GeoJSON"),
    ],
)
def test_a_file_that_cannot_be_read_is_rejected_in_one_line(
    tmp_path: Path, name: str, content: bytes | None, reason: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as error:
        read_annotations(str(tmp_path / name))
    assert str(error.value).startswith(f"{tmp_path / name}: ")
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("packed", [False, True])
def test_a_huge_file_is_rejected_before_it_is_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    monkeypatch.setattr(annotations_module, "MAX_BYTES", 2**20)
    content = b" " * 2**20 + GEOJSON
    path = tmp_path / ("a.geojson.gz" if packed else "a.geojson")
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(DataError, match="more than 1 MB; export the annotations without"):
        read_annotations(str(path))


def make_files(folder: Path, *names: str) -> str:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return str(folder)


def test_annotations_are_found_by_the_name_of_the_slide_with_and_without_suffix(
    tmp_path: Path,
) -> None:
    folder = make_files(tmp_path, "a.geojson", "b.xml", "c.svs.geojson.gz", "d.1.json", "x.png")
    slides = ["a.svs", "b.ndpi", "c.svs", "d.1.tiff", "e.svs"]
    assert find_annotations(folder, slides) == {
        "a.svs": f"{tmp_path}/a.geojson",
        "b.ndpi": f"{tmp_path}/b.xml",
        "c.svs": f"{tmp_path}/c.svs.geojson.gz",
        "d.1.tiff": f"{tmp_path}/d.1.json",
    }


def test_slides_of_one_stem_have_annotations_with_their_suffix(tmp_path: Path) -> None:
    folder = make_files(tmp_path, "a.svs.geojson", "a.ndpi.geojson")
    matches = find_annotations(folder, ["a.svs", "a.ndpi"])
    assert matches["a.svs"] == f"{tmp_path}/a.svs.geojson"
    assert matches["a.ndpi"] == f"{tmp_path}/a.ndpi.geojson"


def test_slides_of_one_name_have_annotations_in_their_subfolders(tmp_path: Path) -> None:
    folder = make_files(tmp_path, "site1/a.geojson", "site2/a.geojson")
    matches = find_annotations(folder, ["site1/a.svs", "site2/a.svs"])
    assert matches["site1/a.svs"] == f"{tmp_path}/site1/a.geojson"
    assert matches["site2/a.svs"] == f"{tmp_path}/site2/a.geojson"


def test_a_flat_folder_has_the_annotations_of_slides_in_subfolders(tmp_path: Path) -> None:
    folder = make_files(tmp_path, "a.geojson")
    assert find_annotations(folder, ["site1/a.svs"]) == {"site1/a.svs": f"{tmp_path}/a.geojson"}


@pytest.mark.parametrize(
    ("files", "slides", "reason"),
    [
        (["a.geojson", "a.xml"], ["a.svs"], "2 files for the slide a.svs"),
        (["x/a.geojson", "y/a.geojson"], ["a.svs"], "2 files for the slide a.svs"),
        (["a.geojson"], ["a.svs", "a.ndpi"], "could be of a.ndpi or a.svs; name it"),
        (["a.geojson"], ["x/a.svs", "y/a.svs"], "could be of x/a.svs or y/a.svs"),
        (["b.geojson"], ["a.svs"], r"no annotations of these slides in it \(files: b.geojson\)"),
        ([".hidden/a.geojson"], ["a.svs"], r"no annotations .*\(files: none\)"),
    ],
)
def test_ambiguous_and_foreign_annotations_are_rejected(
    tmp_path: Path, files: list[str], slides: list[str], reason: str
) -> None:
    folder = make_files(tmp_path, *files)
    with pytest.raises(DataError, match=reason):
        find_annotations(folder, slides)


def test_a_missing_folder_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a folder"):
        find_annotations(str(tmp_path / "missing"), ["a.svs"])


def test_annotations_of_no_slide_are_listed(tmp_path: Path) -> None:
    folder = make_files(tmp_path, "a.geojson", "b.geojson", "c/d.xml")
    assert unmatched_annotations(folder, ["a.svs"]) == ("b.geojson", "c/d.xml")


def test_regions_outside_of_the_slide_are_counted_and_left_out() -> None:
    annotations = regions_of((0, 0, 10), (95, 95, 10), (200, 0, 10), (-20, 0, 10), (0, 100, 5))
    checked = check_in_slide("a.xml", annotations, 100, 100)
    assert [region.geometry.bounds[0] for region in checked.regions] == [0, 95]
    assert checked.warnings == (
        "a.xml: 3 regions left out: outside of the slide of 100 x 100 pixels",
        "a.xml: 1 region with a part outside of the slide of 100 x 100 pixels",
    )


def test_regions_up_to_the_edge_of_the_slide_need_no_warning() -> None:
    annotations = regions_of((0, 0, 100), (-0.5, -0.5, 101))
    assert check_in_slide("a.xml", annotations, 100, 100) == annotations


def test_a_region_around_a_corner_of_the_slide_is_outside() -> None:
    import shapely

    corner = shapely.Polygon(
        [(150, -50), (150, 150), (-50, 150), (-50, 120), (120, 120), (120, -50)]
    )
    annotations = SlideAnnotations((AnnotatedRegion("Tumor", corner),))
    with pytest.raises(DataError, match="all 1 region are outside of the slide of 100 x 100"):
        check_in_slide("a.xml", annotations, 100, 100)


def test_the_annotations_of_another_slide_are_rejected() -> None:
    with pytest.raises(DataError, match=r"a.xml: all 2 regions are outside .* another slide"):
        check_in_slide("a.xml", regions_of((500, 0, 10), (0, 500, 10)), 100, 100)


def test_a_slide_without_regions_is_inside() -> None:
    assert check_in_slide("a.xml", SlideAnnotations(()), 10, 10) == SlideAnnotations(())


def test_a_class_on_no_slide_is_rejected_with_the_names_that_exist() -> None:
    annotations = {"a.svs": regions_of((0, 0, 1)), "b.svs": SlideAnnotations(())}
    check_annotated_classes(["Tumor"], annotations)
    with pytest.raises(DataError, match="class 'tumour': in the annotations of no slide; they have"
                       " 'Tumor'"):  # fmt: skip
        check_annotated_classes(["Tumor", "tumour"], annotations)
    with pytest.raises(DataError, match="they have none"):
        check_annotated_classes(["Tumor"], {})
