"""Adapts the SVG of matplotlib to a page: the page's font and colors, tooltips, short numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from xml.etree import ElementTree as ET

from raysearch.reports.chart_colors import variable_of_color

NUMBER = re.compile(r"-?\d+\.\d+")
COLOR = re.compile(r"#[0-9a-f]{6}")
# The page has its own font.
FAMILY = re.compile(r"font-family: [^;]*;? ?")
REFERENCE = re.compile(r"#([A-Za-z][\w-]*)")
SPACE = re.compile(r"\s+")
XLINK = "{http://www.w3.org/1999/xlink}href"
SHAPES = ("path", "use")


def page_svg(
    content: bytes, name: str, title: str, tips: Mapping[str, Sequence[str]], height: float
) -> str:
    """Return a chart for a page.

    Args:
        content: What matplotlib wrote.
        name: The name of the chart on its page, which makes its identifiers unique.
        title: The text alternative.
        tips: The tooltips of an artist by its identifier: one for the artist, or one for each of
            its shapes.
        height: The height of what is shown; what is above it is cut off.
    """
    root = ET.fromstring(content)  # noqa: S314 matplotlib wrote it
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    _remove(root, ("metadata", "style"))
    references = _references(root)
    for element in root.iter():
        identifier = element.attrib.pop("id", "")
        if identifier in references:
            element.set("id", f"{name}-{identifier}")
        _shorten_attributes(element, name)
        if identifier in tips:
            _add_tips(element, tips[identifier])
    _left, _top, width, full_height = map(float, root.attrib["viewBox"].split())
    root.attrib.clear()
    view_box = f"0 {full_height - height:.0f} {width:.0f} {height:.0f}"
    root.attrib |= {"viewBox": view_box, "role": "img", "aria-label": title}
    return ET.tostring(root, encoding="unicode", short_empty_elements=True)


def _remove(root: ET.Element, tags: Sequence[str]) -> None:
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in tags:
                parent.remove(child)
            child.tail = None
        if parent.tag != "text":
            parent.text = None


def _references(root: ET.Element) -> frozenset[str]:
    """Return the identifiers that the chart itself refers to."""
    values = (
        value
        for element in root.iter()
        for key, value in element.attrib.items()
        if key in (XLINK, "clip-path")
    )
    return frozenset(match for value in values for match in REFERENCE.findall(value))


def _shorten_attributes(element: ET.Element, name: str) -> None:
    variables = variable_of_color()
    for key, value in list(element.attrib.items()):
        if key == XLINK:
            del element.attrib[key]
            element.set("href", f"#{name}-{value[1:]}")
        elif key == "clip-path":
            element.set(key, value.replace("#", f"#{name}-"))
        elif key == "style":
            style = COLOR.sub(lambda match: variables.get(match[0], match[0]), value)
            element.set(key, FAMILY.sub("", style))
        elif key != "id":
            element.set(key, SPACE.sub(" ", NUMBER.sub(_short_number, value)).strip())


def _short_number(match: re.Match[str]) -> str:
    return f"{float(match[0]):.1f}".removesuffix(".0").replace("-0", "0", match[0] == "-0.0")


def _add_tips(element: ET.Element, texts: Sequence[str]) -> None:
    """Add the tooltip of an element, or one to each of its shapes."""
    if len(texts) == 1:
        _add_tip(element, texts[0])
        return
    shapes = list(_shapes(element))
    for shape, text in zip(shapes, texts, strict=False):
        _add_tip(shape, text)


def _shapes(element: ET.Element) -> Iterable[ET.Element]:
    for child in element:
        if child.tag in SHAPES:
            yield child
        elif child.tag != "defs":
            yield from _shapes(child)


def _add_tip(element: ET.Element, text: str) -> None:
    title = ET.Element("title")
    title.text = text
    element.insert(0, title)
    element.set("class", "tip")
