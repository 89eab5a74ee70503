"""XML of ASAP: its types and groups, CAMELYON's exclusions, and what is wrong with a file."""

from __future__ import annotations

import io

import pytest

from raysearch.data.slides.annotated_regions import SlideAnnotations
from raysearch.data.slides.asap_annotations import parse_asap
from raysearch.errors import DataError
from support.annotation_files import asap_annotation, asap_file, square


def parse(content: bytes) -> SlideAnnotations:
    return parse_asap(io.BytesIO(content), "a.xml")


def areas(annotations: SlideAnnotations) -> list[tuple[str, float]]:
    return [(region.class_name, region.geometry.area) for region in annotations.regions]


@pytest.mark.parametrize("kind", ["Polygon", "Spline", "Rectangle"])
def test_each_type_with_an_area_is_a_region_of_its_group(kind: str) -> None:
    annotations = parse(asap_file(asap_annotation(square(5, 5, 10), "metastases", kind)))
    assert areas(annotations) == [("metastases", 100)]
    assert annotations.warnings == ()


def test_a_rectangle_may_have_its_opposite_corners_only() -> None:
    annotations = parse(asap_file(asap_annotation([(1, 2), (4, 7)], kind="Rectangle")))
    assert areas(annotations) == [("Tumor", 15)]


def test_points_are_joined_in_their_order() -> None:
    left, top, right, bottom = square(0, 0, 4)
    shuffled = asap_annotation([left, right, top, bottom])
    sorted_points = shuffled.replace('Order="1"', 'Order="x"').replace('Order="2"', 'Order="1"')
    annotations = parse(asap_file(sorted_points.replace('Order="x"', 'Order="2"')))
    assert areas(annotations) == [("Tumor", 16)]
    assert annotations.regions[0].valid


def test_what_has_no_area_or_no_group_is_counted_and_left_out() -> None:
    annotations = parse(
        asap_file(
            asap_annotation([(1, 1)], kind="Dot"),
            asap_annotation([(1, 1), (2, 2)], kind="Measurement"),
            asap_annotation(square(0, 0, 1), "None"),
            asap_annotation(square(0, 0, 1), ""),
            asap_annotation(square(0, 0, 3)),
            asap_annotation([(1, 1), (2, 2)]),
        )
    )
    assert areas(annotations) == [("Tumor", 9)]
    assert annotations.warnings == (
        "a.xml: 1 annotation left out: a Dot, which has no area",
        "a.xml: 1 annotation left out: a Measurement, which has no area",
        "a.xml: 2 annotations left out: in no group, so without a class",
        "a.xml: 1 annotation left out: a polygon without area (annotation 6)",
    )


def test_the_groups_of_camelyon16_are_tumor_and_its_holes() -> None:
    annotations = parse(
        asap_file(
            asap_annotation(square(0, 0, 100), "_0"),
            asap_annotation(square(200, 0, 10), "_1"),
            asap_annotation(square(10, 10, 20), "_2"),
            asap_annotation(square(20, 10, 20), "_2"),
            asap_annotation(square(500, 500, 20), "_2"),
        )
    )
    # The holes overlap in a half.
    assert areas(annotations) == [("Tumor", 10_000 - 600), ("Tumor", 100)]
    assert len(annotations.warnings) == 1
    assert "the groups _0, _1, _2 are read as in CAMELYON" in annotations.warnings[0]


def test_exclusions_are_cut_out_of_every_class() -> None:
    annotations = parse(
        asap_file(
            asap_annotation(square(0, 0, 10), "Tumor"),
            asap_annotation(square(0, 0, 20), "Stroma"),
            asap_annotation(square(1, 1, 2), "Necrosis"),
            asap_annotation(square(0, 0, 5), "Exclusion"),
        )
    )
    assert areas(annotations) == [("Tumor", 75), ("Stroma", 375)]
    assert "a.xml: 1 annotation left out: within an exclusion" in annotations.warnings


def test_a_polygon_that_crosses_itself_is_repaired_with_a_warning() -> None:
    annotations = parse(asap_file(asap_annotation([(0, 0), (10, 10), (10, 0), (0, 10)])))
    assert areas(annotations) == [("Tumor", 50)]
    assert "1 annotation repaired" in annotations.warnings[0]


ENTITIES = b"""<?xml version="1.0"?><!DOCTYPE ASAP_Annotations [<!ENTITY a "aaaaaaaaaa">
<!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]>
<ASAP_Annotations><Annotations Name="&c;"/></ASAP_Annotations>"""
FILE_ENTITY = b"""<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><ASAP_Annotations>&e;
</ASAP_Annotations>"""
GOOD = asap_file(asap_annotation(square(0, 0, 3)))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no element found"),
        (b"{}", "not XML of ASAP"),
        (GOOD[:-40], "not XML of ASAP"),
        (GOOD[: len(GOOD) // 2], "not XML of ASAP"),
        (ENTITIES, "document type"),
        (FILE_ENTITY, "document type"),
        (b"<Annotations MicronsPerPixel='.5'/>", "its root is <Annotations>"),
        (b"<ASAP_Annotations>" + b"<a>" * 100_000, "nested too deep"),
        (b'<?xml version="1.0" encoding="nonsense"?><ASAP_Annotations/>', "not XML of ASAP"),
        (GOOD.replace(b'X="3"', b'X="nan"', 1), "annotation 1: the coordinate nan"),
        (GOOD.replace(b'X="3"', b'X="1e400"', 1), "annotation 1: the coordinate inf"),
        (GOOD.replace(b'X="3"', b'X="3,5"', 1), "annotation 1: the coordinate '3,5' is no number"),
        (GOOD.replace(b'X="3"', b"", 1), "annotation 1: the coordinate 'None' is no number"),
        (GOOD.replace(b'Order="1"', b'Order="b"'), "annotation 1: Order 'b' is no number"),
        (GOOD.replace(b"Polygon", b"Circle"), "annotation 1: 'Circle' is not a type"),
    ],
)
def test_each_broken_file_is_rejected_in_one_line(content: bytes, reason: str) -> None:
    with pytest.raises(DataError) as error:
        parse(content)
    message = str(error.value)
    assert message.startswith("a.xml: ")
    assert reason in message
    assert "\n" not in message
    assert len(message) < 400
