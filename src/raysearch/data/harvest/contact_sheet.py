"""Draws contact sheets: thumbnails of selected and excluded images, for a quick visual check."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

NUM_COLUMNS, PICTURES_PER_PAGE = 10, 60
# The table lists all images; more pages would not be read.
MAX_PAGES = 20
# Sizes in pixels.
THUMBNAIL_SIDE, CELL_WIDTH, CELL_HEIGHT = 128, 162, 170
LINE_HEIGHT, HEADING_HEIGHT, MARGIN = 13, 30, 10
TEXT_COLOR, PAGE_COLOR, MISSING_COLOR = (30, 30, 30), (255, 255, 255), (225, 225, 225)
MAX_CAPTION_LENGTH = 28


@dataclass(frozen=True)
class Cell:
    """A thumbnail and the two lines of text below it."""

    thumbnail: Image.Image
    lines: tuple[str, str]


class PictureSection:
    """The thumbnails under one heading, in the order in which they were added."""

    def __init__(self, heading: str) -> None:
        self.heading, self.count = heading, 0
        self._cells: list[Cell] = []

    def add(self, thumbnail: Image.Image, first_line: str, second_line: str) -> None:
        """Add a thumbnail and the two lines of text below it."""
        self.count += 1
        if len(self._cells) < PICTURES_PER_PAGE * MAX_PAGES:
            lines = (_shorten(first_line), _shorten(second_line))
            self._cells.append(Cell(thumbnail, lines))

    @property
    def num_pages(self) -> int:
        """The number of pages with thumbnails of this section."""
        return -(-len(self._cells) // PICTURES_PER_PAGE)

    def cells(self, page: int) -> list[Cell]:
        """Return the cells on page `page`, from 0."""
        return self._cells[page * PICTURES_PER_PAGE : (page + 1) * PICTURES_PER_PAGE]

    def page_heading(self, page: int) -> str:
        """Return the heading on page `page`, with the numbers of the pictures if there are more."""
        first, num_cells = page * PICTURES_PER_PAGE, len(self.cells(page))
        span = f" ({first + 1} to {first + num_cells})" if num_cells < self.count else ""
        return f"{self.heading}: {self.count:,}{span}"


def make_thumbnail(pixels: NDArray[np.uint8] | None) -> Image.Image:
    """Scale an image, uint8 (H, W, 3), down to a thumbnail; None gives a gray square."""
    if pixels is None:
        return Image.new("RGB", (THUMBNAIL_SIDE, THUMBNAIL_SIDE), MISSING_COLOR)
    image = Image.fromarray(pixels)
    # The reducing gap makes a page of large figures three times as fast.
    size = (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    image.thumbnail(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    return image


def write_contact_sheets(folder: Path, upper: PictureSection, lower: PictureSection) -> list[str]:
    """Write contact.png, contact-2.png and so on into `folder`, and return their names.

    Each sheet has up to 60 pictures of `upper` above up to 60 of `lower`. Without pictures there is
    no sheet.
    """
    names = []
    for page in range(max(upper.num_pages, lower.num_pages)):
        names.append("contact.png" if page == 0 else f"contact-{page + 1}.png")
        _draw_sheet([upper, lower], page).save(folder / names[-1])
    return names


def _draw_sheet(sections: list[PictureSection], page: int) -> Image.Image:
    """Draw one page: a heading and rows of cells for each section with pictures on it."""
    sections = [section for section in sections if section.cells(page)]
    num_rows = [-(-len(section.cells(page)) // NUM_COLUMNS) for section in sections]
    height = 2 * MARGIN + sum(HEADING_HEIGHT + count * CELL_HEIGHT for count in num_rows)
    sheet = Image.new("RGB", (2 * MARGIN + NUM_COLUMNS * CELL_WIDTH, height), PAGE_COLOR)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=11)
    top = MARGIN
    for section, count in zip(sections, num_rows, strict=True):
        heading_font = ImageFont.load_default(size=16)
        draw.text((MARGIN, top + 4), section.page_heading(page), TEXT_COLOR, heading_font)
        top += HEADING_HEIGHT
        for number, cell in enumerate(section.cells(page)):
            row, column = divmod(number, NUM_COLUMNS)
            x, y = MARGIN + column * CELL_WIDTH, top + row * CELL_HEIGHT
            sheet.paste(cell.thumbnail, (x, y + THUMBNAIL_SIDE - cell.thumbnail.height))
            for line, text in enumerate(cell.lines):
                line_y = y + THUMBNAIL_SIDE + 3 + line * LINE_HEIGHT
                draw.text((x, line_y), text, TEXT_COLOR, font)
        top += count * CELL_HEIGHT
    return sheet


def _shorten(text: str) -> str:
    """Return `text` in one printable line that fits below a thumbnail."""
    printable = "".join(letter if letter.isprintable() else "?" for letter in text)
    if len(printable) <= MAX_CAPTION_LENGTH:
        return printable
    return printable[: MAX_CAPTION_LENGTH - 1] + "\u2026"
