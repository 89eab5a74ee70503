"""Charts: SVG in the page's colors, pictures that open, data as CSV, and names that are texts."""

from __future__ import annotations

import base64
import io
import re
import xml.etree.ElementTree as ET

import pytest
from PIL import Image

from raysearch.data.csv_files import parse_csv
from raysearch.reports.chart_canvas import (
    WIDTH,
    Chart,
    DataTable,
    chart_canvas,
    line_style,
    shorten,
)
from raysearch.reports.chart_colors import light_variables, variable_of_color

HOSTILE = "_<script>alert(1)</script> $\\frac$ \x1b[31m\udc80\ufffe =1+1 漢"


def chart_of(name: str = "plain", label: str = "a line", title: str = "A title") -> Chart:
    with chart_canvas(200) as canvas:
        (line,) = canvas.axes.plot([0, 1, 2], [0, 1, 4], **line_style(0))
        canvas.add_entry(line, label)
        canvas.add_tips(line, label)
        points = canvas.axes.scatter([0, 1], [1, 2], color=line_style(1)["color"])
        canvas.add_tips(points, f"first {label}", f"second {label}")
        canvas.axes.set_xlabel(shorten(label, 80))
        return canvas.chart(name, title, DataTable(["name", "value"], [[label, 1.5], ["b", None]]))


def test_a_chart_has_a_picture_and_its_data() -> None:
    chart = chart_of()
    with Image.open(io.BytesIO(chart.png)) as image:
        assert image.format == "PNG"
        assert image.width == 2 * WIDTH
        assert image.height > 400  # two pixels for each of the chart, and its title
        image.load()
    assert parse_csv(chart.csv).rows == (("a line", "1.5"), ("b", ""))
    assert base64.b64decode(chart.png_uri.partition(",")[2]) == chart.png
    assert base64.b64decode(chart.csv_uri.partition(",")[2]) == chart.csv


def test_the_chart_of_a_page_has_the_colors_of_the_page_and_is_small() -> None:
    svg = chart_of().svg
    root = ET.fromstring(svg)
    assert root.attrib["aria-label"] == "A title"
    assert root.attrib["viewBox"].split()[2] == str(WIDTH)
    assert "A title" not in "".join(root.itertext())
    assert "var(--series-0)" in svg
    assert not [color for color in light_variables().values() if color in svg]
    assert not re.search(r'<style|xmlns|DejaVu|xlink|="[^"]*\d\.\d\d', svg)
    assert len(svg) < 12_000


def test_tooltips_are_at_the_line_and_at_each_point() -> None:
    root = ET.fromstring(chart_of().svg)
    tips = {title.text: parent.tag for parent in root.iter() for title in parent.findall("title")}
    assert tips == {"a line": "g", "first a line": "use", "second a line": "use"}


def test_two_charts_of_a_page_share_no_identifier() -> None:
    first, second = (chart_of(name).svg for name in ("first", "second"))
    identifiers = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in (first, second)]
    assert identifiers[0]
    assert not identifiers[0] & identifiers[1]
    for svg, known in zip((first, second), identifiers, strict=True):
        references = re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', svg)
        assert {one or other for one, other in references} == known


def test_the_same_chart_has_the_same_bytes() -> None:
    assert chart_of() == chart_of()


@pytest.mark.parametrize("label", [HOSTILE, "_hidden", "a\nb", "$x$"])
def test_names_are_text(label: str) -> None:
    chart = chart_of(label=label, title=label)
    root = ET.fromstring(chart.svg)  # markup of the name would be elements
    assert {element.tag for element in root.iter()} <= {
        *("svg", "g", "path", "use", "text", "defs", "clipPath", "rect", "title"),
    }
    assert label.split("\n", maxsplit=1)[0][:5] in "".join(root.itertext())
    assert "<script" not in chart.svg
    assert not set(chart.svg) & set("\x1b\udc80\ufffe")
    with Image.open(io.BytesIO(chart.png)) as image:
        image.load()


def test_a_cell_of_the_data_is_no_formula() -> None:
    assert chart_of(label="=1+1").csv.splitlines()[1].startswith(b"'=1+1")


def test_each_color_has_one_variable() -> None:
    assert len(variable_of_color()) == len(light_variables())


def test_many_lines_differ_in_color_or_dashes() -> None:
    styles = [str(line_style(number)) for number in range(36)]
    assert len(set(styles)) == 36
