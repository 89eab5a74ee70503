"""Files of annotations are read by their suffix, and checked against their slides."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import shapely

from raysearch.data.slides import annotated_regions
from raysearch.data.slides import annotations as annotations_module
from raysearch.data.slides.annotations import (
    AnnotatedRegion,
    SlideAnnotations,
    check_in_slide,
    read_annotations,
)
from raysearch.errors import DataError, StorageError
from support.annotation_files import (
    asap_annotation,
    asap_file,
    collection,
    feature,
    polygon,
    square,
)
from support.failing_store import failing_folder

GEOJSON = collection(feature(polygon(square(0, 0, 10))))


def regions_of(*squares: tuple[float, float, float]) -> SlideAnnotations:
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


@pytest.mark.parametrize("name", ["a\x00b.geojson", "a\x00b/c.geojson", "\ud800.geojson"])
def test_a_path_that_no_file_system_has_is_rejected(name: str) -> None:
    with pytest.raises(DataError, match=r"cannot be read|contains a NUL"):
        read_annotations(f"/tmp/{name}")


@pytest.mark.parametrize("packed", [False, True])
def test_a_huge_file_is_rejected_before_it_is_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    for module in (annotations_module, annotated_regions):
        monkeypatch.setattr(module, "MAX_BYTES", 2**20)
    content = b" " * 2**20 + GEOJSON
    path = tmp_path / ("a.geojson.gz" if packed else "a.geojson")
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(DataError, match=r"more than .*; export the annotations without"):
        read_annotations(str(path))


def test_an_object_store_that_fails_while_it_is_read_is_a_storage_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = failing_folder(ConnectionError("reset by peer"))
    monkeypatch.setattr(annotations_module, "Folder", lambda _address: folder)
    with pytest.raises(StorageError, match=r"a\.geojson: cannot be used \(reset by peer"):
        read_annotations("s3://bucket/all/a.geojson")


def test_classes_that_differ_only_in_case_are_rejected(tmp_path: Path) -> None:
    square_of = polygon(square(0, 0, 10))
    path = tmp_path / "a.geojson"
    path.write_bytes(collection(feature(square_of, "Tumor"), feature(square_of, "TUMOR")))
    with pytest.raises(DataError, match="classes 'TUMOR' and 'Tumor' of the annotations differ"):
        read_annotations(str(path))


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
    corner = shapely.Polygon(
        [(150, -50), (150, 150), (-50, 150), (-50, 120), (120, 120), (120, -50)]
    )
    annotations = SlideAnnotations((AnnotatedRegion("Tumor", corner),))
    with pytest.raises(DataError, match="its only region is outside of the slide of 100 x 100"):
        check_in_slide("a.xml", annotations, 100, 100)


def test_the_annotations_of_another_slide_are_rejected() -> None:
    with pytest.raises(DataError, match=r"a.xml: all 2 regions are outside .* another slide"):
        check_in_slide("a.xml", regions_of((500, 0, 10), (0, 500, 10)), 100, 100)


def test_a_slide_without_regions_is_inside() -> None:
    assert check_in_slide("a.xml", SlideAnnotations(()), 10, 10) == SlideAnnotations(())
