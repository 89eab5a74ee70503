"""XML of ASAP: its types and groups, CAMELYON's exclusions, and what is wrong with a file."""

from __future__ import annotations

import time

import pytest

from raysearch.data.slides import annotated_regions
from raysearch.data.slides.annotated_regions import SlideAnnotations
from raysearch.data.slides.asap_annotations import parse_asap
from raysearch.errors import DataError
from support.annotation_files import asap_annotation, asap_file, square


def parse(content: bytes) -> SlideAnnotations:
    return parse_asap(content, "a.xml")


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


def test_normal_tissue_is_cut_out_of_the_metastases_of_camelyon17() -> None:
    """The masks of CAMELYON17 are painted in this order, also where one crosses the other."""
    annotations = parse(
        asap_file(
            asap_annotation(square(90, 0, 20), "normal"),
            asap_annotation(square(0, 0, 100), "metastases"),
            asap_annotation(square(10, 10, 20), "normal"),
            asap_annotation(square(95, 5, 2), "metastases"),
            asap_annotation(square(0, 0, 100), "stroma"),
        )
    )
    assert areas(annotations) == [
        ("normal", 400), ("metastases", 10_000 - 400 - 200), ("normal", 400), ("stroma", 10_000),
    ]  # fmt: skip
    first, second = annotations.warnings
    assert "the groups metastases, normal are read as in CAMELYON" in first
    assert "normal is cut out of metastases" in first
    assert second == "a.xml: 1 annotation left out: within what is cut out"


@pytest.mark.parametrize("group", ["metastases", "normal"])
def test_one_of_both_groups_is_a_class_without_a_convention(group: str) -> None:
    annotations = parse(asap_file(asap_annotation(square(0, 0, 2), group)))
    assert areas(annotations) == [(group, 4)]
    assert annotations.warnings == ()


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
    assert "a.xml: 1 annotation left out: within what is cut out" in annotations.warnings


def test_exclusions_that_cross_regions_too_often_are_rejected() -> None:
    strips = [
        [(0, step), (4000, step), (4000, step + 5), (0, step + 5)] for step in range(0, 2000, 10)
    ]
    across = [[(y, x) for x, y in strip] for strip in strips]
    content = asap_file(
        *(asap_annotation(strip, "Tumor") for strip in strips),
        *(asap_annotation(strip, "Exclusion") for strip in across),
    )
    with pytest.raises(DataError, match=r"^a.xml: its polygons .* \(more than 100,000 crossings"):
        parse(content)


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
        (GOOD.replace(b'X="3"', b'X="1_0"', 1), "annotation 1: the coordinate '1_0' is no number"),
        (GOOD.replace(b'X="3"', 'X="\u0663"'.encode(), 1), "is no number"),
        (GOOD.replace(b'X="3"', b'X="2e7"', 1), "the coordinate 20000000.0 is not between"),
        (GOOD.replace(b'Order="1"', b'Order="b"'), "annotation 1: Order 'b' is no number"),
        (GOOD.replace(b'Order="1"', b'Order="1_0"'), "annotation 1: Order '1_0' is no number"),
        (GOOD.replace(b'"Tumor" C', b'"' + b"x" * 201 + b'" C'), "annotation 1: the class name"),
        (GOOD.replace(b'"Tumor" C', b'"a&#x9b;b" C'), "annotation 1: the class name 'a\\x9bb'"),
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


def test_a_long_attribute_takes_no_long_time() -> None:
    """A parser that is fed in parts reads the attribute from its start for each of them."""
    content = GOOD.replace(b"#F4FA58", b"x" * (32 * 2**20))
    start = time.perf_counter()
    assert areas(parse(content)) == [("Tumor", 9)]
    assert time.perf_counter() - start < 5  # .1 s


def test_a_file_with_too_many_values_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(annotated_regions, "MAX_VALUES", 38)
    content = asap_file(asap_annotation(square(0, 0, 3)))
    assert content.count(b"<") + content.count(b"=") == 38
    assert areas(parse(content)) == [("Tumor", 9)]
    with pytest.raises(DataError, match=r"^a.xml: more than 38 values; export the annotations"):
        parse(content + b"<")


def test_a_file_with_too_many_points_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(annotated_regions, "MAX_POINTS", 7)
    with pytest.raises(DataError, match=r"^a.xml: more than 7 points of polygons"):
        parse(asap_file(asap_annotation(square(0, 0, 3)), asap_annotation(square(9, 9, 3))))
