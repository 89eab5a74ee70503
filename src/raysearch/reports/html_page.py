"""Renders self-contained HTML pages from templates, and defines the parts that all pages have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

TEMPLATES = Path(__file__).parent


@dataclass(frozen=True)
class Chart:
    """A chart as inline SVG, with its title."""

    title: str
    svg: str


@dataclass(frozen=True)
class Picture:
    """An image as a data URI, with its caption, which is also its text alternative."""

    uri: str
    caption: str


@dataclass(frozen=True)
class Table:
    """A table of texts.

    Attributes:
        title: The caption; may be empty.
        columns: The names of the columns; the first column names the rows.
        rows: The cells of each row.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


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
    )
    return environment.get_template(template).render(content)
