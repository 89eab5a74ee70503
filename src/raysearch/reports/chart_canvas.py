"""Draws a chart with matplotlib, and keeps it as SVG for a page, as PNG and as CSV.

Only this module imports matplotlib, and only in functions: the import takes two seconds of CPU.
"""

from __future__ import annotations

import base64
import io
import logging
import re
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

from raysearch.data.csv_files import csv_content
from raysearch.printable_text import escape_controls
from raysearch.reports.chart_colors import DASHES, INK, LEVELS, LINE, SERIES, SOFT, level_of
from raysearch.reports.chart_svg import page_svg

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# The width of every chart, in pixels of a page: a telephone's, and a third of a screen's.
WIDTH = 400
POINTS_PER_INCH, PNG_SCALE, PNG_COLORS = 72, 2, 64
TITLE_LENGTH, TITLE_HEIGHT = 48, 22
# Surrogates, and the two characters above them that XML excludes (XML 1.0, production 2).
NOT_IN_XML = re.compile("[\ud800-\udfff\ufffe\uffff]")
FONT_SIZE, SMALL_FONT_SIZE = 13, 12
STYLE: dict[Any, Any] = {
    "axes.edgecolor": SOFT,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.labelcolor": INK,
    "axes.labelsize": FONT_SIZE,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.unicode_minus": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "font.size": FONT_SIZE,
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "legend.edgecolor": LINE,
    "legend.fontsize": SMALL_FONT_SIZE,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.linewidth": 2,
    "svg.fonttype": "none",
    "svg.hashsalt": "raysearch",
    "text.color": INK,
    # A name with dollars is no formula.
    "text.parse_math": False,
    "text.usetex": False,
    "xtick.color": SOFT,
    "xtick.labelsize": SMALL_FONT_SIZE,
    "ytick.color": SOFT,
    "ytick.labelsize": SMALL_FONT_SIZE,
}


class LineStyle(TypedDict):
    """The look of a line, as matplotlib's parameters."""

    color: str
    ls: str | tuple[float, tuple[float, ...]]


@dataclass(frozen=True)
class DataTable:
    """The data of a chart, which its CSV file has."""

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]


@dataclass(frozen=True)
class Chart:
    """A drawn chart.

    Attributes:
        name: Its name on the page and of its files, in small letters, digits and hyphens.
        title: Its title.
        caption: What a reader has to know to read it; may be empty.
        svg: The chart for the page.
        png: The chart as a picture, with its title.
        csv: Its data.
    """

    name: str
    title: str
    caption: str
    svg: str
    png: bytes
    csv: bytes

    @property
    def png_uri(self) -> str:
        """The picture as a data URI."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"

    @property
    def csv_uri(self) -> str:
        """The data as a data URI."""
        return f"data:text/csv;base64,{base64.b64encode(self.csv).decode()}"


class ChartCanvas:
    """A chart while it is drawn.

    Attributes:
        figure: The figure of matplotlib.
        grid: Its axes by row and column.
        legend_columns: The number of columns of the legend.
    """

    legend_columns = 1

    def __init__(self, figure: Figure, rows: int, columns: int) -> None:
        self.figure = figure
        self.grid: list[list[Axes]] = figure.subplots(rows, columns, squeeze=False).tolist()
        self._tips: dict[str, list[str]] = {}
        self._entries: list[tuple[Artist, str]] = []

    @property
    def axes(self) -> Axes:
        """The first axes, which are the only ones of most charts."""
        return self.grid[0][0]

    def add_tips(self, artist: Artist, *texts: str) -> None:
        """Add a tooltip to an artist, or one to each of its shapes, in their order."""
        identifier = f"tip-{len(self._tips)}"
        artist.set_gid(identifier)
        self._tips[identifier] = [visible(text) for text in texts]

    def add_entry(self, artist: Artist, label: str) -> None:
        """Add an entry to the legend, which is below the chart, where it covers no data."""
        self._entries.append((artist, visible(label)))

    def add_level_bar(self, first: float, last: float, label: str, tick_format: str) -> None:
        """Put the colors of the levels below the axes, with values from `first` to `last`."""
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import BoundaryNorm, ListedColormap

        steps = range(len(LEVELS) + 1)
        colors = ScalarMappable(BoundaryNorm(list(steps), len(LEVELS)), ListedColormap(LEVELS))
        bar = self.figure.colorbar(
            colors, ax=self.axes, location="bottom", ticks=steps[::2], aspect=30, pad=0.02
        )
        values = [first + (last - first) * step / len(LEVELS) for step in steps[::2]]
        bar.ax.set_xticklabels([tick_format.format(value) for value in values])
        bar.ax.tick_params(length=0)
        bar.set_label(label)
        bar.outline.set_visible(False)

    def chart(self, name: str, title: str, data: DataTable, caption: str = "") -> Chart:
        """Render the chart and return it; only the picture contains the title."""
        title, svg, png = visible(title), io.BytesIO(), io.BytesIO()
        figure = self.figure
        if self._entries:
            handles, labels = zip(*self._entries, strict=True)
            figure.legend(handles, labels, loc="outside lower left", ncols=self.legend_columns)
        heading = figure.suptitle("\n".join(textwrap.wrap(title, TITLE_LENGTH)), weight="bold")
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        height = float(heading.get_window_extent().y0)
        dpi = POINTS_PER_INCH * PNG_SCALE
        figure.savefig(png, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})
        heading.set_visible(False)
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
        return Chart(
            name,
            title,
            caption,
            page_svg(svg.getvalue(), name, title, self._tips, height),
            _with_few_colors(png.getvalue()),
            csv_content(data.columns, data.rows),
        )


@contextmanager
def chart_canvas(height: float, rows: int = 1, columns: int = 1) -> Iterator[ChartCanvas]:
    """Yield the canvas of a chart of `height` pixels and its title, with a grid of axes.

    A character that the font of the picture lacks is a box there; the page has all characters.
    """
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        size = (WIDTH / POINTS_PER_INCH, (height + TITLE_HEIGHT) / POINTS_PER_INCH)
        figure = Figure(figsize=size, dpi=POINTS_PER_INCH, layout="constrained")
        yield ChartCanvas(figure, rows, columns)


def visible(text: str) -> str:
    """Return a text that can be drawn: with escapes for its control characters, and one line.

    A character that XML or UTF-8 does not have is a question mark.
    """
    return escape_controls(NOT_IN_XML.sub("?", text))


def shorten(text: str, max_length: int) -> str:
    """Return a text that can be drawn, cut off at `max_length` characters."""
    text = visible(text)
    return text if len(text) <= max_length else f"{text[: max_length - 1]}…"


def level_color(value: float, first: float, last: float) -> str:
    """Return the color of a value between those of the first and of the last level."""
    return LEVELS[level_of(value, first, last)]


def line_style(number: int) -> LineStyle:
    """Return the color and the dashes of a line by its number; 36 lines differ."""
    shift = number // len(SERIES)
    return {"color": SERIES[number % len(SERIES)], "ls": DASHES[(number + shift) % len(DASHES)]}


def file_name(*parts: object) -> str:
    """Return parts of a name in small letters, digits and hyphens."""
    words = re.findall(r"[a-z0-9]+", "-".join(map(str, parts)).lower())
    return "-".join(words)


def _with_few_colors(png: bytes) -> bytes:
    """Return a picture with a palette, which makes a chart's file less than half as large."""
    from PIL import Image

    output = io.BytesIO()
    with Image.open(io.BytesIO(png)) as image:
        palette = image.convert("RGB").quantize(PNG_COLORS, dither=Image.Dither.NONE)
        palette.save(output, "PNG", optimize=True)
    return output.getvalue()
