"""Renders self-contained HTML pages from templates, and defines the parts that all pages have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
from markupsafe import Markup

from raysearch.printable_text import printable
from raysearch.reports.chart_colors import style_sheet

TEMPLATES = Path(__file__).parent
# What the head of a study's report contains, and no other page's.
REPORT_MARK = b'<meta name="generator" content="raysearch report">'
HEAD_LENGTH = 1000


@dataclass(frozen=True)
class Picture:
    """An image as a data URI, with its caption, which is also its text alternative.

    Attributes:
        uri: The image.
        caption: The caption.
        scale: What the first and the last color of a heatmap mean; None for other images.
    """

    uri: str
    caption: str
    scale: tuple[str, str] | None = None


@dataclass(frozen=True)
class Table:
    """A table of texts.

    Attributes:
        title: The caption; may be empty.
        columns: The names of the columns; the first column names the rows.
        rows: The cells of each row.
        is_text: Whether the cells are texts, which are not aligned to the right as numbers are.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    is_text: bool = False


def _visible(value: object) -> object:
    """Return a value of a template, its control characters made visible if it is a text.

    A surrogate, which UTF-8 does not have, is a question mark. Markup, such as the SVG of a chart,
    stays markup.
    """
    if isinstance(value, Markup):
        return Markup(printable(str(value)))  # noqa: S704 it was markup before
    if isinstance(value, str):
        return printable(value.encode("utf-8", "replace").decode())
    return value


def render_page(template: str, **content: object) -> str:
    """Render a page that needs no other file.

    Args:
        template: Name of the template, next to this module.
        content: The values that the template reads, by name.

    Raises:
        jinja2.UndefinedError: If the template reads a value that is missing.
    """
    environment = jinja2.Environment(
        autoescape=True,
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        finalize=_visible,
    )
    environment.globals["chart_colors"] = Markup(style_sheet())  # noqa: S704 colors of the source
    return environment.get_template(template).render(content)


def is_report(path: Path) -> bool:
    """Return whether a file is the report of a study."""
    try:
        with path.open("rb") as file:
            return REPORT_MARK in file.read(HEAD_LENGTH)
    except OSError:
        return False
